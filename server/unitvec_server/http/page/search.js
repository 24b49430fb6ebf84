// Search among the texts by meaning, while the query is typed.

import { byId, debounced, ranked, showError } from "./elements.js";
import { corpus } from "./corpus.js";
import { QUERY } from "./samples.js";
import { embed } from "./server.js";
import { settings } from "./settings.js";
import { dot, shaped } from "./vectors.js";

const SHOWN = 10;

let onChange = () => {};
let running = new AbortController();

export function open(changed) {
  onChange = changed;
  byId("query").value = QUERY;
  byId("query").addEventListener("input", debounced(refresh, 120));
}

export function description() {
  return { view: "search", query: byId("query").value.trim(), texts: corpus.texts };
}

// Cancels the request for what was typed before: its answer is not wanted any more.
export async function refresh() {
  onChange();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const { model, queryPrompt, dimensions, dtype } = settings;
  const query = byId("query").value.trim();
  if (!query || corpus.vectors.length === 0) return show([], query);
  try {
    const [vector] = await embed([query], { model: model.name, prompt: queryPrompt, signal });
    if (signal.aborted) return undefined;
    showError(null);
    return show(rank(shaped(vector, dimensions, dtype)), query);
  } catch (error) {
    return showError(error);
  }
}

function rank(vector) {
  if (corpus.vectors[0].length !== vector.length) return []; // Of another model, and soon anew.
  const scored = corpus.vectors.map((one, i) => [i, dot(vector, one)]);
  return scored.sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
}

function show(hits, query) {
  const among = `${corpus.texts.length.toLocaleString("en")} texts`;
  byId("found").textContent = query ? `The ${hits.length} nearest of ${among}` : "Type what you look for; the words need not be in the texts.";
  byId("results").replaceChildren(...hits.map(([i, score]) => ranked(corpus.texts[i], score)));
}
