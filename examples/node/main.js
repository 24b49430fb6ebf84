#!/usr/bin/env node
/** unitvec from Node: `embed`, `stream` and `similarity`. */

import { createReadStream, createWriteStream } from 'node:fs';
import { parseArgs } from 'node:util';
import { Client } from './client.js';
import { embedLines } from './embed_lines.js';
import { UnitvecError } from './errors.js';
import { Gate } from './stream.js';

const USAGE = `usage: node main.js COMMAND [options] ...

  embed TEXT...               print each text's tokens and the start of its vector
  stream [FILE]               embed each line of a file, or of standard input: JSON lines
  similarity QUERY TEXT...    rank texts by how close they are to the query

  --target HOST:PORT          of the server (default: UNITVEC_TARGET, then localhost:50051)
  --timeout-s SECONDS         deadline of calls that are not streams (default: 30)
  --json                      embed, similarity: print JSON
  --truncate end|start|error  embed, stream: what happens to a text that is too long
  --max-in-flight N           stream: requests not answered yet (default: twice the server's own)`;

const TRUNCATE = /** @type {const} */ ({
  end: 'TRUNCATE_END',
  start: 'TRUNCATE_START',
  error: 'TRUNCATE_ERROR',
});
const STATUS = { failed: 1, usage: 2, someLinesFailed: 3, brokenPipe: 141 };

/** @typedef {ReturnType<typeof parse>} Arguments */

class UsageError extends Error {}

/** @type {Record<string, (client: Client, args: Arguments) => Promise<number>>} */
const COMMANDS = { embed, stream, similarity };

/** @param {string[]} words */
function parse(words) {
  const { values, positionals } = parseArgs({
    args: words,
    allowPositionals: true,
    options: {
      target: { type: 'string', default: process.env.UNITVEC_TARGET || 'localhost:50051' },
      'timeout-s': { type: 'string', default: '30' },
      json: { type: 'boolean', default: false },
      truncate: { type: 'string', default: 'end' },
      'max-in-flight': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (!Object.hasOwn(TRUNCATE, values.truncate)) {
    throw new UsageError('--truncate must be end, start or error');
  }
  const truncate = TRUNCATE[/** @type {keyof typeof TRUNCATE} */ (values.truncate)];
  const [command = '', ...texts] = positionals;
  const maxInFlight = values['max-in-flight'] ? positive(values, 'max-in-flight') : null;
  return { ...values, command, texts, truncate, maxInFlight, timeoutS: positive(values, 'timeout-s') };
}

/**
 * @param {Record<string, unknown>} values
 * @param {string} name
 */
function positive(values, name) {
  const number = Number(values[name]);
  if (!(number > 0)) throw new UsageError(`--${name} must be a number above 0`);
  return number;
}

/**
 * @param {Client} client
 * @param {Arguments} args
 */
async function embed(client, { texts, truncate, json }) {
  if (texts.length === 0) throw new UsageError('embed needs a text');
  const { vectors, model, tokens } = await client.embed(texts, { truncate });
  if (json) {
    const rows = texts.map((_, index) => [...vectors.row(index)]);
    console.log(JSON.stringify({ model, tokens, vectors: rows }));
    return 0;
  }
  console.log(`${vectors.rows} vectors of ${vectors.dim} float32, by ${model}`);
  for (const [index, text] of texts.entries()) {
    const start = [...vectors.row(index).subarray(0, 4)].map((value) => value.toFixed(4));
    console.log(`  [${start.join(', ')}, ...]  ${tokens[index]} tokens  ${text}`);
  }
  return 0;
}

/**
 * @param {Client} client
 * @param {Arguments} args
 */
async function similarity(client, { texts: [query, ...texts], json }) {
  if (query === undefined || texts.length === 0) {
    throw new UsageError('similarity needs a query and a text');
  }
  const [ranking] = await client.rank([query], texts, { topK: texts.length });
  const ranked = ranking.indices.map((index, place) => ({
    text: texts[index],
    score: ranking.scores[place],
  }));
  if (json) console.log(JSON.stringify(ranked));
  else for (const { score, text } of ranked) console.log(`${score.toFixed(4).padStart(8)}  ${text}`);
  return 0;
}

/**
 * @param {Client} client
 * @param {Arguments} args
 */
async function stream(client, { texts: [file], truncate, maxInFlight }) {
  const limits = await client.limits();
  const gate = new Gate(maxInFlight ?? 2 * limits.maxStreamRequests);
  const input = file === undefined || file === '-' ? process.stdin : createReadStream(file);
  // Unlike process.stdout it never blocks, so that a slow reader stops nothing but the output.
  const output = createWriteStream('', { fd: 1 });
  const bounds = { gate, maxLineBytes: limits.maxTextBytes };
  const { vectors, errors } = await embedLines(client, { input, output, truncate, ...bounds });
  const most = `at most ${gate.mostInFlight} of ${gate.capacity} in flight`;
  console.error(`${vectors} vectors, ${errors} errors; ${most}`);
  return errors ? STATUS.someLinesFailed : 0;
}

/** @param {string[]} words */
async function main(words) {
  const args = parse(words);
  if (args.help) {
    console.log(USAGE);
    return 0;
  }
  if (!Object.hasOwn(COMMANDS, args.command)) throw new UsageError(USAGE);
  const client = new Client(args.target, { timeoutS: args.timeoutS });
  try {
    return await COMMANDS[args.command](client, args);
  } finally {
    client.close();
  }
}

/** @param {any} error */
function report(error) {
  if (error.code === 'EPIPE') return STATUS.brokenPipe;
  const isUsage = error instanceof UsageError || error.code?.startsWith('ERR_PARSE_ARGS');
  const isKnown = isUsage || error instanceof UnitvecError || error.syscall;
  console.error(isKnown ? `unitvec: ${message(error)}` : error);
  return isUsage ? STATUS.usage : STATUS.failed;
}

/** @param {Error} error */
function message(error) {
  return error instanceof UnitvecError ? error.toString() : error.message;
}

process.exitCode = await main(process.argv.slice(2)).catch(report);
