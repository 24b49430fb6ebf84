// A text as the model reads it: its tokens, and what is cut off.

import { byId, debounced, element, showError } from "./elements.js";
import { LONG, TOKENIZED } from "./samples.js";
import { loadTokens } from "./server.js";
import { settings } from "./settings.js";

const MOST_SHOWN = 2000;

let onChange = () => {};
let running = new AbortController();

export function open(changed) {
  onChange = changed;
  const input = byId("tokenized");
  input.value = TOKENIZED;
  input.addEventListener("input", debounced(refresh, 120));
  byId("long-text").addEventListener("click", () => {
    input.value = LONG;
    refresh();
  });
}

export function description() {
  return { view: "tokens", texts: [byId("tokenized").value] };
}

export async function refresh() {
  onChange();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  try {
    const { model, prompt } = settings;
    const found = await loadTokens(byId("tokenized").value, { model: model.name, prompt, signal });
    if (signal.aborted) return;
    showError(null);
    show(found);
  } catch (error) {
    showError(error);
  }
}

function show({ tokens, kept_tokens: kept, max_tokens: most }) {
  const count = (number) => number.toLocaleString("en");
  const cut = tokens.length - kept;
  const room = `${count(tokens.length)} of at most ${count(most)} tokens`;
  byId("token-count").textContent = cut > 0 ? `${room}: ${count(cut)} are cut off` : `${room}: the model reads all of it`;
  byId("token-meter").classList.toggle("full", cut > 0);
  byId("token-meter").max = most;
  byId("token-meter").value = Math.min(tokens.length, most);
  const shown = tokens.slice(0, MOST_SHOWN).map(piece);
  const rest = tokens.length - shown.length;
  byId("pieces").replaceChildren(...shown, rest > 0 ? ` and ${count(rest)} more` : "");
}

function piece({ id, token, text, is_special: special, is_prompt: prompt, is_kept: kept }) {
  const kind = [special && "special", prompt && "prompt", !kept && "cut"].filter(Boolean).join(" ");
  return element("span", { class: kind, text, title: `${token}, id ${id}${kept ? "" : ", cut off"}` });
}
