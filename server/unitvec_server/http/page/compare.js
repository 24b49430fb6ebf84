// Two or more texts, and how alike each two of them are.

import { button, byId, debounced, element, showError } from "./elements.js";
import { COMPARED } from "./samples.js";
import { embed } from "./server.js";
import { settings } from "./settings.js";
import { dot, shaped } from "./vectors.js";

const MOST_TEXTS = 24;
const SHORTEST_SHARED = 4; // Letters of a word that says something by being shared.

let onChange = () => {};
let running = new AbortController();
let picked = null; // The pair of texts that was clicked.

export function open(changed) {
  onChange = changed;
  fill(COMPARED);
  byId("add-text").addEventListener("click", () => {
    addRow("").querySelector("textarea").focus();
    number();
  });
  byId("sample-compared").addEventListener("click", () => {
    fill(COMPARED);
    refresh();
  });
}

export function texts() {
  return [...byId("compared").querySelectorAll("textarea")].map(({ value }) => value.trim()).filter(Boolean);
}

export function description() {
  return { view: "compare", texts: texts() };
}

export async function refresh() {
  onChange();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const { model, prompt, dimensions, dtype } = settings;
  const compared = texts();
  try {
    const vectors = await embed(compared, { model: model.name, prompt, signal });
    if (signal.aborted) return;
    showError(null);
    const short = vectors.map((vector) => shaped(vector, dimensions, dtype));
    draw(compared, short.map((a) => short.map((b) => dot(a, b))));
  } catch (error) {
    showError(error);
  }
}

const soon = debounced(refresh, 250);

function fill(given) {
  picked = null;
  byId("compared").replaceChildren();
  given.forEach(addRow);
  number();
}

function addRow(text) {
  const input = element("textarea", { rows: "1", placeholder: "Another text" });
  input.value = text;
  input.addEventListener("input", () => {
    number();
    picked = null;
    soon();
  });
  const row = element("li", {}, element("span", { class: "number", "aria-hidden": "true" }), input);
  row.append(button("×", () => {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    picked = null;
    number();
    next?.querySelector("textarea").focus();
    refresh();
  }));
  byId("compared").append(row);
  return row;
}

// Empty texts have no number, as they have no row in the table.
function number() {
  let count = 0;
  const rows = [...byId("compared").children];
  for (const row of rows) {
    const [shown, input, remove] = row.children;
    if (input.value.trim()) count += 1;
    shown.textContent = input.value.trim() ? count : "";
    input.setAttribute("aria-label", `Text ${input.value.trim() ? count : "(empty)"}`);
    remove.setAttribute("aria-label", `Remove text ${input.value.trim() ? count : "(empty)"}`);
    remove.disabled = rows.length <= 2;
  }
  byId("add-text").disabled = rows.length >= MOST_TEXTS;
}

function draw(compared, scores) {
  const head = element("tr", {}, element("td"), ...compared.map((_, i) => element("th", { scope: "col", text: String(i + 1) })));
  const rows = scores.map((row, i) => element("tr", {}, element("th", { scope: "row", text: String(i + 1) }),
    ...row.map((score, j) => element("td", {}, cell(compared, scores, i, j)))));
  const table = byId("heat");
  table.replaceChildren(table.caption, element("thead", {}, head), element("tbody", {}, ...rows));
  table.hidden = compared.length < 2;
  explain(compared, scores);
}

// What a text has with itself is 1, and no news.
function cell(compared, scores, i, j) {
  if (i === j) return element("div", { class: "self", text: "1" });
  const score = scores[i][j];
  const label = `Texts ${i + 1} and ${j + 1}: ${rounded(score)}`;
  const made = button(rounded(score), () => {
    picked = [i, j];
    draw(compared, scores);
    byId("heat").querySelector(`[data-pair="${i}-${j}"]`).focus();
  }, { "aria-label": label, "aria-pressed": String(picked?.join() === `${i},${j}`), "data-pair": `${i}-${j}` });
  made.style.setProperty("--share", `${(100 * Math.max(0, Math.min(1, score))).toFixed(1)}%`);
  return made;
}

// In words: the pair that was picked, or what is most worth seeing.
function explain(compared, scores) {
  const pairs = compared.flatMap((_, i) => compared.slice(i + 1).map((__, k) => [i, i + 1 + k]));
  const shown = byId("insights");
  if (pairs.length === 0) return shown.replaceChildren(element("p", { text: "Write a second text to compare." }));
  const by = ([i, j]) => scores[i][j];
  if (picked) return shown.replaceChildren(tell("", compared, picked, by(picked)));
  const closest = pairs.reduce((best, pair) => (by(pair) > by(best) ? pair : best));
  const misled = pairs.filter((pair) => longest(shared(compared, pair)).length >= SHORTEST_SHARED && by(pair) < 0.3)
    .sort((a, b) => by(a) - by(b))[0];
  const lines = [tell("Most alike: ", compared, closest, by(closest))];
  if (misled) lines.push(tell("A word in common, but little meaning: ", compared, misled, by(misled)));
  return shown.replaceChildren(...lines);
}

function tell(start, compared, [i, j], score) {
  const words = shared(compared, [i, j]);
  const common = words.length ? `Shared: ${words.slice(0, 6).map((word) => `“${word}”`).join(", ")}.` : "They share no word.";
  return element("p", { text: start }, element("b", { text: `${i + 1} and ${j + 1}` }), ", ", element("b", { text: rounded(score) }), ". ", common);
}

function rounded(score) {
  return (Math.round(score * 100) / 100 || 0).toFixed(2).replace("-", "−");
}

function shared(compared, [i, j]) {
  const words = (text) => new Set(text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
  const others = words(compared[j]);
  return [...words(compared[i])].filter((word) => others.has(word));
}

function longest(words) {
  return words.reduce((best, word) => (word.length > best.length ? word : best), "");
}
