"use strict";

// Reads the page's data, draws the map that the controls ask for, and lists neighbours and matches.
// Texts come from outside: they enter the page only as text nodes, and Plotly, which reads some
// tags, only through escaped().

const data = JSON.parse(document.getElementById("data").textContent);
const plot = document.getElementById("map");
const panel = document.getElementById("panel");
const controls = document.getElementById("controls");
const query = document.getElementById("query");

const COLOURS = [
  "#4e79a7", "#f28e2b", "#e15759", "#59a14f", "#b07aa1",
  "#9c755f", "#17a2b8", "#d4a90f", "#ff7fa5", "#7f7f7f",
];
const CONFIG = {
  responsive: true,
  scrollZoom: true,
  displaylogo: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d"],
  showSendToCloud: false, // On by default in Plotly: texts would leave the page.
  plotlyServerURL: "",
};
const LISTED = 50; // Matches beside the map; all are marked in it.
const LINE = 60; // Characters in a line of hover text.
const TYPING_MS = 150; // Pause after which a query is sent.
const IS_SERVED = location.protocol.startsWith("http"); // By maps.py, which finds by meaning.

const searched = data.words.map((words, i) => `${words}\n${data.texts[i]}`.toLowerCase());
const hover = data.words.map((words, i) => {
  const lines = [`<b>${escaped(words)}</b>`, ...wrapped(data.texts[i]).map(escaped)];
  return [...lines, `<i>${escaped(groupName("category", i))}</i>`].join("<br>");
});
const SEARCHING = IS_SERVED
  ? "Search finds texts by meaning."
  : "Search finds letters here, and meaning where maps.py --port serves this page.";
let selected = null; // Index of the text that was clicked.
let nearest = null; // Texts by meaning, with their cosines; null where letters are searched.
let asking = new AbortController();
let typing = 0;

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function wrapped(text) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (longer.length <= LINE) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function groupName(kind, i) {
  const group = data.groups[kind];
  return group.names[group.numbers[i]];
}

function chosen(name) {
  return controls.elements[name].value;
}

function shown() {
  const dims = Number(chosen("dims"));
  return data.maps.find((map) => map.method === chosen("method") && map.dims === dims);
}

function matches() {
  const wanted = query.value.trim().toLowerCase();
  if (!wanted) return [];
  if (nearest) return nearest.indices;
  return [...searched.keys()].filter((i) => searched[i].includes(wanted));
}

// Asks for the texts that are nearest in meaning, and no more for those of the query before.
async function ask() {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  try {
    const body = JSON.stringify({ query: query.value.trim() });
    const headers = { "content-type": "application/json" };
    const reply = await fetch("search", { method: "POST", headers, body, signal });
    nearest = reply.ok ? await reply.json() : null;
  } catch {
    if (signal.aborted) return;
    nearest = null; // Letters are better than nothing.
  }
  draw();
}

// The rank of a neighbour in the map: 1 for the nearest of all.
function rankInMap(map, from, to) {
  const distance = (i) => map.axes.reduce((sum, axis) => sum + (axis[i] - axis[from]) ** 2, 0);
  const limit = distance(to);
  return data.words.filter((_, i) => i !== from && i !== to && distance(i) < limit).length + 1;
}

// Drawing

function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
}

// One trace of the map; `indices` are of texts, null breaks a line.
function trace(map, indices, extra) {
  const made = {
    type: map.dims === 3 ? "scatter3d" : "scatter",
    mode: "markers",
    customdata: indices,
    text: indices.map((i) => hover[i] ?? ""),
    hovertemplate: "%{text}<extra></extra>",
    ...extra,
  };
  map.axes.forEach((axis, k) => {
    made["xyz"[k]] = indices.map((i) => axis[i] ?? null);
  });
  return made;
}

function groupTraces(map, group, faded) {
  return group.names.map((name, number) => {
    const members = [...group.numbers.keys()].filter((i) => group.numbers[i] === number);
    return trace(map, members, {
      name,
      opacity: faded ? 0.35 : 0.85,
      marker: { size: map.dims === 3 ? 4 : 6.5, color: COLOURS[number % COLOURS.length] },
    });
  });
}

function marked(map, group, name, indices, size) {
  return trace(map, indices, {
    name,
    showlegend: false,
    marker: {
      size: map.dims === 3 ? size * 0.7 : size,
      color: indices.map((i) => COLOURS[group.numbers[i] % COLOURS.length]),
      line: { color: themed("ink"), width: 1.5 },
    },
  });
}

function neighbourTraces(map, group) {
  const neighbours = data.neighbours[selected];
  const lines = trace(map, neighbours.flatMap((i) => [selected, i, null]), {
    name: "lines",
    mode: "lines",
    hoverinfo: "skip",
    showlegend: false,
    line: { color: themed("ink"), width: 1 },
  });
  return [
    lines,
    marked(map, group, "neighbours", neighbours, 11),
    marked(map, group, "selected", [selected], 18),
  ];
}

// Given, or large marks would make Plotly move the map.
function range(axis) {
  const [low, high] = [Math.min(...axis), Math.max(...axis)];
  const margin = 0.04 * (high - low);
  return [low - margin, high + margin];
}

function layout(map) {
  const bare = { showticklabels: false, ticks: "", zeroline: false, title: { text: "" } };
  const wall = { ...bare, showspikes: false, gridcolor: themed("rule"), backgroundcolor: themed("paper") };
  const camera = { eye: { x: 1.45, y: 1.45, z: 1 } }; // All points in sight.
  const view = `${map.method} ${map.dims}`; // Zoom, camera and legend stay until this changes.
  return {
    margin: { l: 10, r: 10, t: 40, b: 10 },
    paper_bgcolor: themed("paper"),
    plot_bgcolor: themed("paper"),
    font: { color: themed("ink"), size: 13 },
    hoverlabel: { align: "left", bgcolor: themed("raised"), font: { color: themed("ink"), size: 13 } },
    hovermode: "closest",
    dragmode: "pan",
    uirevision: view,
    legend: { bgcolor: "rgba(0,0,0,0)", itemsizing: "constant", uirevision: chosen("colour"), x: 1, y: 1 },
    xaxis: { ...bare, showgrid: false, range: range(map.axes[0]) },
    yaxis: { ...bare, showgrid: false, range: range(map.axes[1]), scaleanchor: "x" },
    scene: { xaxis: wall, yaxis: wall, zaxis: wall, aspectmode: "data", dragmode: "orbit", camera },
  };
}

function draw() {
  const map = shown();
  const group = data.groups[chosen("colour")];
  const found = matches();
  const traces = groupTraces(map, group, selected !== null || query.value.trim() !== "");
  if (found.length) traces.push(marked(map, group, "matches", found, 11));
  if (selected !== null) traces.push(...neighbourTraces(map, group));
  Plotly.react(plot, traces, layout(map), CONFIG);
  describe(map);
  count(found);
  list(map, found);
}

// Words beside the map

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(0)}%`;
}

function describe(map) {
  const near = data.neighbours[0].length;
  document.getElementById("faithfulness").replaceChildren(
    element("strong", `${map.method} in ${map.dims}-D`),
    ` keeps ${percent(map.kept)} of the ${near} nearest neighbours that a text has in ` +
      `${data.dimensions} dimensions. Trustworthiness ${map.trustworthiness.toFixed(2)}. ` +
      "The axes have no unit: only nearness means something.",
  );
}

function count(found) {
  const all = data.words.length.toLocaleString("en");
  const how = nearest ? `the ${found.length} nearest of ${all} texts` : `${found.length} of ${all} texts match`;
  const text = query.value.trim() ? how : `${all} texts`;
  document.getElementById("count").textContent = text;
}

function item(i, notes) {
  const made = element("button", "", "item");
  made.type = "button";
  made.dataset.index = i;
  made.append(element("strong", data.words[i]), element("span", data.texts[i], "text"), notes);
  made.addEventListener("click", () => select(i));
  const row = document.createElement("li");
  row.append(made);
  return row;
}

function neighbour(map, i, k) {
  const rank = rankInMap(map, selected, i);
  const note = `${groupName("category", i)} · rank ${rank} in this map`;
  const made = item(i, element("span", note, "note"));
  made.firstChild.prepend(element("span", data.cosines[selected][k].toFixed(3), "cosine"));
  return made;
}

function listNeighbours(map) {
  const clear = element("button", "Clear");
  clear.type = "button";
  clear.id = "clear";
  clear.addEventListener("click", () => select(null));
  const where = `${groupName("category", selected)} · cluster ${groupName("cluster", selected)}`;
  const rows = document.createElement("ol");
  rows.append(...data.neighbours[selected].map((i, k) => neighbour(map, i, k)));
  panel.replaceChildren(
    clear,
    element("h2", data.words[selected]),
    element("p", data.texts[selected]),
    element("p", where, "note"),
    element("h3", `Nearest by cosine in ${data.dimensions} dimensions`),
    rows,
  );
}

function match(i, k) {
  const made = item(i, element("span", groupName("category", i), "note"));
  if (nearest) made.firstChild.prepend(element("span", nearest.cosines[k].toFixed(3), "cosine"));
  return made;
}

function listMatches(found) {
  const rows = document.createElement("ol");
  rows.append(...found.slice(0, LISTED).map(match));
  const cut = found.length > LISTED ? ` (the first ${LISTED})` : "";
  panel.replaceChildren(element("h3", nearest ? "Nearest in meaning" : `Matches${cut}`), rows);
}

function list(map, found) {
  if (selected !== null) listNeighbours(map);
  else if (found.length) listMatches(found);
  else panel.replaceChildren(element("p", `Click a point to see its true nearest neighbours. ${SEARCHING}`));
}

// What people do

function select(i) {
  selected = i;
  draw();
}

// Not for the query: on leaving it, a new list would take the place of the item being clicked.
controls.addEventListener("change", (event) => {
  if (event.target !== query) draw();
});
controls.addEventListener("submit", (event) => event.preventDefault());
query.addEventListener("input", () => {
  clearTimeout(typing);
  if (IS_SERVED && query.value.trim()) typing = setTimeout(ask, TYPING_MS);
  select(null);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && selected !== null) select(null);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

draw();
// Plotly must be done with the click before it draws again in 3-D.
plot.on("plotly_click", ({ points }) => setTimeout(() => select(points[0].customdata)));
