// The page as a whole: it learns what is served, shows one view at a time, and writes its call.

import * as compare from "./compare.js";
import * as corpus from "./corpus.js";
import { byId, showError, tabs } from "./elements.js";
import * as map from "./map.js";
import * as search from "./search.js";
import { loadFacts, useToken } from "./server.js";
import { openSettings } from "./settings.js";
import { write } from "./snippets.js";
import * as tokens from "./tokens.js";

const VIEWS = { compare, search, map, tokens };
const COPIED_MS = 1500;

let view = "compare";
let language = "curl";
let isReady = false;

function refresh() {
  if (!isReady) return;
  if (view === "search" || view === "map") corpus.refresh();
  else VIEWS[view].refresh();
}

function showView(id) {
  view = id.replace("tab-", "");
  for (const name of Object.keys(VIEWS)) byId(name).hidden = name !== view;
  corpus.moveTo(byId(view));
  if (isReady) showCall();
  refresh();
}

function showCall() {
  const { code, note } = write(language, VIEWS[view].description());
  byId("code").textContent = code;
  byId("call-note").textContent = note;
}

async function copy() {
  const text = byId("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
    byId("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("code")); // Without TLS browsers let people copy, not pages.
    byId("copy").textContent = "Press Ctrl+C";
  }
  setTimeout(() => (byId("copy").textContent = "Copy"), COPIED_MS);
}

async function start() {
  try {
    const facts = await loadFacts();
    showError(null);
    byId("token-form").hidden = true;
    byId("docs").hidden = !facts.apis.includes("docs");
    isReady = true;
    openSettings(facts, refresh);
  } catch (error) {
    const isAsked = error.status === 401;
    byId("token-form").hidden = !isAsked;
    showError(isAsked && !byId("token").value ? null : error);
    if (isAsked) byId("token").focus();
    if (error.status === 503) setTimeout(start, 1000);
  }
}

for (const one of Object.values(VIEWS)) one.open(() => isReady && showCall());
corpus.open(() => {
  if (view === "search" || view === "map") VIEWS[view].refresh();
});
tabs(byId("tabs"), showView);
tabs(byId("languages"), (id) => {
  language = id.replace("language-", "");
  byId("snippet").setAttribute("aria-labelledby", id);
  if (isReady) showCall();
});
byId("copy").addEventListener("click", copy);
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value);
  start();
});
start();
