// A map of the texts: near means alike, colours are clusters, a click shows true neighbours.

import { byId, element, ranked, showError } from "./elements.js";
import { corpus } from "./corpus.js";
import { cluster, inSlices, project } from "./projection.js";
import { dot } from "./vectors.js";
import { Plot } from "./plot.js";

const NEIGHBOURS = 8;
const FEWEST = 3;

let plot = null;
let running = new AbortController();
let drawn = -1; // Version of the texts that are on the map.
let onChange = () => {};

export function open(changed) {
  onChange = changed;
  const counts = Array.from({ length: 9 }, (_, i) => String(i + 2));
  byId("clusters").append(element("option", { value: "", text: "auto" }), ...counts.map((value) => element("option", { value, text: value })));
  byId("clusters").addEventListener("change", () => {
    drawn = -1;
    refresh();
  });
  plot = new Plot(byId("plot"), byId("tip"), select);
}

export function description() {
  return { view: "map", texts: corpus.texts };
}

export async function refresh() {
  onChange();
  if (drawn === corpus.version) return plot.draw();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const { texts, vectors, version } = corpus;
  byId("neighbours").replaceChildren();
  if (vectors.length < FEWEST) {
    plot.show([], [], []);
    byId("legend").replaceChildren(element("li", { text: `A map needs ${FEWEST} texts or more.` }));
    return undefined;
  }
  try {
    const points = await inSlices(project(vectors), signal);
    const groups = points && await inSlices(cluster(vectors, clusterCount(vectors.length)), signal);
    if (!groups) return undefined;
    drawn = version;
    plot.show(texts, points, groups.numbers);
    return describe(texts, groups);
  } catch (error) {
    return showError(error);
  }
}

function clusterCount(count) {
  const automatic = Math.max(2, Math.min(8, Math.round(Math.sqrt(count))));
  return Math.min(Number(byId("clusters").value) || automatic, count);
}

function describe(texts, { sizes, typical }) {
  byId("legend").replaceChildren(...typical.map((i, k) => {
    const mark = element("i");
    mark.style.setProperty("--colour", `var(--group-${k})`);
    return element("li", { title: texts[i] }, mark, element("span", { text: texts[i] }), element("span", { class: "quiet", text: String(sizes[k]) }));
  }));
  byId("plot").setAttribute("aria-label", `Map of ${texts.length} texts in ${sizes.length} clusters`);
}

function select(chosen) {
  const { texts, vectors } = corpus;
  const near = chosen === null ? [] : vectors.map((vector, i) => [i, dot(vectors[chosen], vector)])
    .filter(([i]) => i !== chosen).sort((a, b) => b[1] - a[1]).slice(0, NEIGHBOURS);
  plot.mark(chosen, near.map(([i]) => i));
  if (chosen === null) return byId("neighbours").replaceChildren();
  const rows = near.map(([i, score]) => ranked(texts[i], score, () => select(i)));
  return byId("neighbours").replaceChildren(element("p", { class: "selected", text: texts[chosen] }),
    element("p", { class: "quiet", text: "Its nearest, by all dimensions" }), element("ol", { class: "results" }, ...rows));
}
