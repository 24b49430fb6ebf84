// Calls to the server, which are those that anybody can make: POST /v1/embeddings as OpenAI has it.

import { decode } from "./vectors.js";

const BATCH_TEXTS = 64;
const BATCH_CHARS = 200_000;
const IN_FLIGHT = 2;
const MOST_CACHED = 20_000;
const MOST_TRIES = 6;

let token = ""; // Kept here only, and gone with the page.
let mostTexts = BATCH_TEXTS;
const spaces = new Map(); // By model: the vectors of another one are not to be mixed with those that are here.
const cache = new Map(); // Vectors by model, prompt and text; the oldest goes first.

// An error whose message is written for people.
export class PlainError extends Error {
  isPlain = true;
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export function useToken(given) {
  token = given;
}

export async function loadFacts() {
  const facts = await call("page/facts");
  mostTexts = Math.min(BATCH_TEXTS, facts.max_texts_per_request);
  facts.models.forEach(({ name, space }) => spaces.set(name, space));
  return facts;
}

export function loadTokens(text, { model, prompt, signal }) {
  return call("page/tokens", { text, model, ...named(prompt) }, signal);
}

// The vectors of texts, in order. `onProgress` is told how many are done.
export async function embed(texts, { model, prompt, signal, onProgress = () => {} }) {
  const key = (text) => JSON.stringify([model, prompt, text]);
  const found = new Map(texts.map((text) => [text, cache.get(key(text))]));
  const missing = [...found.keys()].filter((text) => found.get(text) === undefined);
  const batches = batched(missing);
  let done = found.size - missing.length;
  const work = async () => {
    for (let batch = batches.shift(); batch; batch = batches.shift()) {
      const vectors = await embedBatch(batch, { model, prompt, signal });
      batch.forEach((text, i) => found.set(text, keep(key(text), vectors[i])));
      done += batch.length;
      onProgress(done, found.size);
    }
  };
  try {
    await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  } finally {
    batches.length = 0; // After a failure the others need not be sent.
  }
  return texts.map((text) => found.get(text));
}

async function embedBatch(input, { model, prompt, signal }) {
  const body = { model, input, encoding_format: "base64", ...named(prompt) };
  const { data } = await call("v1/embeddings", body, signal);
  return data.map(({ embedding }) => decode(embedding));
}

function batched(texts) {
  const batches = [];
  let chars = 0;
  for (const text of texts) {
    const last = batches.at(-1);
    chars += text.length;
    if (last && last.length < mostTexts && chars <= BATCH_CHARS) last.push(text);
    else {
      batches.push([text]);
      chars = text.length;
    }
  }
  return batches;
}

function keep(key, vector) {
  cache.set(key, vector);
  if (cache.size > MOST_CACHED) cache.delete(cache.keys().next().value);
  return vector;
}

// No name leaves it to the model, which may have a prompt by default; an empty one means none.
function named(prompt) {
  return prompt === null ? {} : { prompt_name: prompt };
}

// Calls the server; when it is busy, again after the time that it asks for.
async function call(path, body, signal) {
  for (let tries = 1; ; tries += 1) {
    const response = await send(path, body, signal);
    if (response.ok) return response.json();
    if (response.status !== 429 || tries === MOST_TRIES) throw await explain(response);
    await pause(Number(response.headers.get("retry-after-ms")) || 500, signal);
  }
}

async function send(path, body, signal) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const space = spaces.get(body?.model);
  if (space) headers["x-unitvec-expected-space"] = space;
  const request = body === undefined ? { headers, signal }
    : { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(body), signal };
  try {
    return await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new PlainError("The server does not answer. Is it running, and this machine connected to it?");
  }
}

const EXPLAINED = {
  401: "This server wants a token, and that one is not right.",
  404: "The server has no such model or path any more. Reload the page.",
  412: "The server has another model under that name by now. Reload the page.",
  429: "The server is busy with the requests of others. Try again in a moment.",
  503: "The server is starting or shutting down. Try again in a moment.",
  504: "The server did not finish in time. Try again, or with fewer texts.",
};

async function explain(response) {
  const told = await response.json().catch(() => null);
  const message = EXPLAINED[response.status] ?? `The server says: ${told?.error?.message ?? response.statusText}`;
  return new PlainError(message, response.status);
}

function pause(wait_ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, wait_ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
