// Runs a block of `docs/clients.md` in some places and prints what each gives, as JSON.
import { readFileSync, writeFileSync } from "node:fs";

const [block, places] = process.argv.slice(2).map((path) => readFileSync(path, "utf8"));
const found = {};
for (const [name, replacements] of Object.entries(JSON.parse(places))) {
  let code = block + "\nexport { vectors };\n";
  for (const [old, made] of Object.entries(replacements)) code = code.replaceAll(old, made);
  writeFileSync(new URL(`${name}.js`, import.meta.url), code);
  try {
    const { vectors } = await import(`./${name}.js`);
    found[name] = { vectors: vectors.map((row) => Array.from(row, Math.fround)) };
  } catch (error) {
    found[name] = { error: error.constructor.name, text: error.message };
  }
}
console.log(JSON.stringify(found));
