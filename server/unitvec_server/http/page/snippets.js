// What is shown, as a call to copy. Texts become literals of JSON, which Python reads as well; secrets
// stay in a variable of the environment.

import { isDefaultModel, settings } from "./settings.js";

const MOST_TEXTS = 12;

// The code for what a view describes, and a note where it is not quite the same.
export function write(language, described) {
  const kept = { ...described, texts: described.texts.slice(0, MOST_TEXTS) };
  const { code, notes = [] } = { curl: inCurl, python: inPython, openai: inOpenAi }[language](kept);
  const rest = described.texts.length - kept.texts.length;
  if (rest > 0) notes.push(`With the first ${MOST_TEXTS} of ${described.texts.length.toLocaleString("en")} texts.`);
  return { code, note: notes.join(" ") };
}

const base = () => new URL(".", location.href).href.replace(/\/$/, "");
const hasToken = () => settings.facts.wants_token;
const isQuery = ({ view, query }) => view === "search" && query !== "";

function inCurl(described) {
  if (described.view === "tokens") return curlTokens(described);
  const { view, query, texts } = described;
  const notes = [];
  if (view !== "tokens" && settings.dtype !== "float32") notes.push("OpenAI's API has float32 only; the Python call has the others.");
  const bodies = isQuery(described) ? [[[query], settings.queryPrompt], [texts, settings.prompt]] : [[texts, settings.prompt]];
  const code = bodies.map(([input, prompt]) => curl("v1/embeddings", { model: settings.model.name, input, ...dimensions(), ...named(prompt) }));
  return { code: code.join("\n\n"), notes };
}

function curlTokens({ texts }) {
  if (!settings.facts.apis.includes("tei") || !isDefaultModel()) {
    return { code: "# Only TEI's API tells tokens over HTTP, and only of the default model.", notes: ["The Python call has them."] };
  }
  return { code: curl("tokenize", { inputs: texts, ...named(settings.prompt) }), notes: ["Without what is cut, which the Python call tells."] };
}

function curl(path, body) {
  const token = hasToken() ? ' \\\n  -H "authorization: Bearer $UNITVEC_TOKEN"' : "";
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl ${base()}/${path}${token} \\\n  -H 'content-type: application/json' \\\n  -d '${quoted}'`;
}

function inPython(described) {
  const { view, query, texts } = described;
  const options = pythonOptions(settings.prompt);
  const dtype = settings.dtype === "float32" ? "" : `, dtype="${settings.dtype}"`;
  const embed = (given, prompt) => `client.embed(${given}${pythonOptions(prompt)}${dtype})`;
  const lines = {
    compare: dtype ? [`vectors = ${embed("texts", settings.prompt)}`, "print(vectors.shape, vectors.dtype)"]
      : [`print(client.similarity(texts, texts${options}).round(2))`],
    map: [`vectors = ${embed("texts", settings.prompt)}`, "print(vectors.shape, vectors.dtype)"],
    search: searchLines(query, embed, dtype),
    tokens: [`read = client.tokenize(texts[0]${pythonOptions(settings.prompt, false)})`, "print(read.tokens)", "print(read.kept_tokens)"],
  }[view];
  const imports = hasToken() ? "import os\n\n" : "";
  const secure = hasToken() || location.protocol === "https:";
  return {
    code: `${imports}from unitvec_client import Client${secure ? ", ConnectionOptions" : ""}\n\n${literals(texts)}\n\n`
      + `with Client(${target()}) as client:\n${lines.map((line) => `    ${line}\n`).join("")}`,
  };
}

function searchLines(query, embed, dtype) {
  const wanted = `queries = ${embed(`[${JSON.stringify(query)}]`, settings.queryPrompt)}`;
  const vectors = `vectors = ${embed("texts", settings.prompt)}`;
  if (dtype) return [wanted, vectors, "print(queries.shape, vectors.shape, vectors.dtype)"];
  return [wanted, vectors, "scores = vectors @ queries[0]", "for i in scores.argsort()[::-1]:", '    print(f"{scores[i]:.3f} {texts[i]}")'];
}

function target() {
  const { hostname, protocol } = location;
  const options = [protocol === "https:" && "tls=True", hasToken() && 'token=os.environ["UNITVEC_TOKEN"]'].filter(Boolean);
  const connection = options.length ? `, connection=ConnectionOptions(${options.join(", ")})` : "";
  return `"${hostname}:${settings.facts.grpc_port}"${connection}`;
}

function pythonOptions(prompt, withDimensions = true) {
  const given = [
    isDefaultModel() ? "" : `model=${JSON.stringify(settings.model.name)}`,
    withDimensions && dimensions().dimensions ? `dimensions=${settings.dimensions}` : "",
    prompt === null ? "" : `prompt_name=${JSON.stringify(prompt)}`,
  ].filter(Boolean);
  return given.map((one) => `, ${one}`).join("");
}

function inOpenAi(described) {
  const { view, query, texts } = described;
  if (view === "tokens") return { code: "# OpenAI's API does not tell tokens.", notes: ["The Python call has them."] };
  const notes = settings.dtype === "float32" ? [] : ["OpenAI's API has float32 only; the Python call has the others."];
  const lines = {
    compare: ["vectors = embed(texts)", "print((vectors @ vectors.T).round(2))"],
    map: ["vectors = embed(texts)", "print(vectors.shape)"],
    search: [`scores = embed(texts) @ embed([${JSON.stringify(query)}]${promptArgument(settings.queryPrompt)})[0]`,
      "for i in scores.argsort()[::-1]:", '    print(f"{scores[i]:.3f} {texts[i]}")'],
  }[view];
  const key = hasToken() ? 'os.environ["UNITVEC_TOKEN"]' : '"none"';
  return {
    notes,
    code: `${hasToken() ? "import os\n\n" : ""}import numpy as np\nfrom openai import OpenAI\n\n`
      + `client = OpenAI(base_url="${base()}/v1", api_key=${key})\n\n\n${openAiFunction()}\n\n\n${literals(texts)}\n${lines.join("\n")}\n`,
  };
}

// Without prompts, the function that everybody would write.
function openAiFunction() {
  const given = dimensions().dimensions ? `, dimensions=${settings.dimensions}` : "";
  const model = JSON.stringify(settings.model.name);
  const create = (rest) => `    reply = client.embeddings.create(model=${model}, input=texts${given}${rest})\n`
    + "    return np.array([one.embedding for one in reply.data])";
  if (settings.prompt === null && settings.queryPrompt === null) return `def embed(texts):\n${create("")}`;
  const byDefault = settings.prompt === null ? "None" : JSON.stringify(settings.prompt);
  return `def embed(texts, prompt_name=${byDefault}):\n    extra = {"prompt_name": prompt_name}\n${create(", extra_body=extra")}`;
}

function promptArgument(prompt) {
  if (settings.prompt === prompt) return "";
  return prompt === null ? ", None" : `, ${JSON.stringify(prompt)}`;
}

function literals(texts) {
  return `texts = [\n${texts.map((text) => `    ${JSON.stringify(text)},\n`).join("")}]`;
}

function dimensions() {
  return settings.dimensions < settings.model.dimensions ? { dimensions: settings.dimensions } : {};
}

function named(prompt) {
  return prompt === null ? {} : { prompt_name: prompt };
}
