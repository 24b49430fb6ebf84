// Texts out of files that people choose or drop.

// The texts of a file, each in one line.
export function readTexts(name, content) {
  const texts = /\.jsonl?$/i.test(name) ? readJson(content)
    : /\.[ct]sv$/i.test(name) ? readTable(content)
      : content.split("\n");
  return texts.map((one) => one.replaceAll(/\s+/g, " "));
}

// An array, or a value on each line: strings, or objects with one in `text` or elsewhere.
function readJson(content) {
  const values = content.trimStart().startsWith("[") ? JSON.parse(content)
    : content.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  return values.map(longestText);
}

function longestText(value) {
  if (typeof value === "string") return value;
  if (typeof value?.text === "string") return value.text;
  const texts = Object.values(value ?? {}).filter((one) => typeof one === "string");
  return texts.reduce((best, one) => (one.length > best.length ? one : best), "");
}

// The column that is headed `text`, or the one with the longest cells. What is no table, since its rows are not of one
// length, has a text on each line.
function readTable(content) {
  const rows = readRows(content, separatorOf(content));
  const [head] = rows;
  if (!rows.every((row) => row.length === head.length)) return content.split("\n");
  const named = head.findIndex((cell) => cell.trim().toLowerCase() === "text");
  if (named >= 0 && rows.length > 1) return rows.slice(1).map((row) => row[named]);
  const sizes = head.map((_, column) => rows.reduce((sum, row) => sum + row[column].length, 0));
  const longest = sizes.indexOf(Math.max(...sizes));
  return rows.map((row) => row[longest]);
}

function separatorOf(content) {
  const [line] = content.trimStart().split("\n", 1);
  const count = (mark) => line.split(mark).length;
  return [",", ";", "\t"].reduce((best, mark) => (count(mark) > count(best) ? mark : best));
}

// Cells in quotes may hold separators, line breaks, and quotes, which are doubled. Empty lines are no rows.
function readRows(content, separator) {
  const quoted = `"([^"]*(?:""[^"]*)*)"[ \\t]*`;
  const cell = new RegExp(`(?:${quoted}|([^${separator}\\n]*?))(${separator}|\\r?\\n|$)`, "gy");
  const rows = [];
  let row = [];
  for (const [all, inQuotes, plain, end] of content.matchAll(cell)) {
    if (row.length || all.trim()) row.push(inQuotes === undefined ? plain : inQuotes.replaceAll('""', '"'));
    if (end === separator) continue;
    if (row.length) rows.push(row);
    row = [];
  }
  return rows;
}
