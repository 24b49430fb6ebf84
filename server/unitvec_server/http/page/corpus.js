// The texts that Search and Map work on: samples, pasted or dropped ones, and their vectors.

import { byId, debounced, showError } from "./elements.js";
import { readTexts } from "./files.js";
import { CORPUS } from "./samples.js";
import { embed, PlainError } from "./server.js";
import { settings } from "./settings.js";
import { shaped } from "./vectors.js";

const MOST_TEXTS = 10_000;
const MOST_FILE_BYTES = 20 * 2 ** 20;

export const corpus = { texts: [], vectors: [], version: 0 };

let onChange = () => {};
let running = new AbortController();
let known = { key: "", whole: [] }; // The vectors as the server sent them.

export function open(changed) {
  onChange = changed;
  const panel = byId("corpus-template").content.cloneNode(true).firstElementChild;
  document.querySelector("#search .side").append(panel);
  byId("corpus").value = CORPUS;
  byId("corpus").addEventListener("input", debounced(refresh, 600));
  byId("sample-corpus").addEventListener("click", () => replace(CORPUS));
  byId("cancel").addEventListener("click", () => running.abort());
  byId("corpus-file").addEventListener("change", (event) => {
    readFile(event.target.files[0]);
    event.target.value = "";
  });
  listenToDrops(panel);
}

// The panel is one, and goes to the view that is shown.
export function moveTo(view) {
  view.querySelector(".side")?.append(document.querySelector(".corpus"));
}

export async function refresh() {
  const { model, prompt } = settings;
  const texts = readLines();
  const key = JSON.stringify([model.name, prompt, texts]);
  if (key === known.key) return shape();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  try {
    const onProgress = (done, all) => signal.aborted || showProgress(done, all);
    showProgress(0, texts.length);
    const whole = await embed(texts, { model: model.name, prompt, signal, onProgress });
    if (signal.aborted) return undefined;
    known = { key, whole };
    corpus.texts = texts;
    showError(null);
    showProgress(1, 1);
    return shape();
  } catch (error) {
    if (!signal.aborted || signal === running.signal) showProgress(1, 1);
    return showError(error);
  }
}

function shape() {
  corpus.vectors = known.whole.map((vector) => shaped(vector, settings.dimensions, settings.dtype));
  corpus.version += 1;
  onChange();
}

function readLines() {
  const lines = byId("corpus").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const texts = [...new Set(lines)];
  const kept = texts.slice(0, MOST_TEXTS);
  const cut = texts.length > kept.length ? `, the first of ${texts.length.toLocaleString("en")}` : "";
  byId("corpus-count").textContent = `${kept.length.toLocaleString("en")}${cut}`;
  return kept;
}

function replace(text) {
  byId("corpus").value = text;
  refresh();
}

function showProgress(done, all) {
  byId("progress").hidden = done >= all || all <= 64;
  byId("progress-bar").max = all;
  byId("progress-bar").value = done;
  byId("progress-text").textContent = `Embedding ${done.toLocaleString("en")} of ${all.toLocaleString("en")}`;
}

function listenToDrops(panel) {
  const mark = (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    panel.classList.toggle("dropping", event.type === "dragover");
  };
  panel.addEventListener("dragover", mark);
  panel.addEventListener("dragleave", mark);
  panel.addEventListener("drop", (event) => {
    mark(event);
    if (event.dataTransfer.files.length) readFile(event.dataTransfer.files[0]);
  });
}

async function readFile(file) {
  try {
    if (file.size > MOST_FILE_BYTES) throw new PlainError("That file is longer than 20 MiB. Take a part of it.");
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    replace(readTexts(file.name, text).join("\n"));
  } catch (error) {
    showError(error instanceof PlainError ? error : new PlainError(`${file.name} is no text in UTF-8, or not the JSON that its name says.`));
  }
}
