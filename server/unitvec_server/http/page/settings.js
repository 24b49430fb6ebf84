// What the controls above the views say, and who wants to know when it changes.

import { byId, element } from "./elements.js";
import { bytesOf } from "./vectors.js";

export const settings = { facts: null, model: null, dimensions: 0, dtype: "float32", prompt: null, queryPrompt: null };

const DTYPES = {
  float32: "Exactly what the model says.",
  float16: "Half the bytes; the same to three digits.",
  int8: "A quarter of the bytes, hardly different.",
  binary: "Only the signs: a 32nd of the bytes, good for a first, coarse search.",
};

export function openSettings(facts, onChange) {
  settings.facts = facts;
  const model = byId("model");
  model.replaceChildren(...facts.models.map(({ name }) => element("option", { value: name, text: name })));
  model.disabled = facts.models.length === 1;
  const takeModel = () => {
    showModel(facts.models.find(({ name }) => name === model.value));
    onChange();
  };
  model.onchange = takeModel;
  for (const id of ["dimensions", "dtype", "prompt", "query-prompt"]) {
    byId(id).oninput = () => {
      read();
      onChange();
    };
  }
  takeModel();
}

export function isDefaultModel() {
  return settings.model === settings.facts.models[0];
}

function showModel(model) {
  settings.model = model;
  const range = byId("dimensions");
  range.max = model.dimensions;
  range.value = model.dimensions;
  byId("lead-dimensions").textContent = ` of ${model.dimensions} numbers`;
  const names = Object.keys(model.prompts).filter((name) => model.prompts[name]);
  for (const field of document.querySelectorAll(".prompts")) field.hidden = names.length === 0;
  offerPrompts(byId("prompt"), model, names, ["document", "passage"]);
  offerPrompts(byId("query-prompt"), model, names, ["query"]);
  read();
}

// Prompts by name; "default" leaves it to the model.
function offerPrompts(select, model, names, preferred) {
  const byDefault = model.default_prompt_name;
  const options = [element("option", { value: "=", text: byDefault ? `the model's default (${byDefault})` : "none" })];
  if (byDefault) options.push(element("option", { value: "", text: "none" }));
  options.push(...names.map((name) => element("option", { value: name, text: `${name}: “${model.prompts[name]}”` })));
  select.replaceChildren(...options);
  select.value = preferred.find((name) => names.includes(name)) ?? "=";
}

function read() {
  const chosen = (id) => (byId(id).value === "=" ? null : byId(id).value);
  settings.dimensions = Number(byId("dimensions").value);
  settings.dtype = byId("dtype").value;
  settings.prompt = chosen("prompt");
  settings.queryPrompt = chosen("query-prompt");
  const size = bytesOf(settings.dimensions, settings.dtype).toLocaleString("en");
  byId("dimensions-now").textContent = `${settings.dimensions} of ${settings.model.dimensions}`;
  byId("dtype-help").textContent = DTYPES[settings.dtype];
  byId("options-now").textContent = `${settings.dimensions} dimensions, ${settings.dtype}, ${size} bytes a text`;
}
