/** A file of lines in, lines of JSON out, as many in between as the gate lets in. */

import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { BadLine, readLines } from './lines.js';

/**
 * Writes one line of JSON for each line read, as replies come: `id`, which is the number of
 * the line from 1, and `vector` or `error`. A line that cannot be embedded costs no other.
 *
 * @param {import('./client.js').Client} client
 * @param {object} options
 * @param {import('node:stream').Readable} options.input Lines of UTF-8; it is closed at the end.
 * @param {import('node:stream').Writable & {errored: Error | null}} options.output
 * @param {import('./stream.js').Gate} options.gate
 * @param {number} options.maxLineBytes
 * @param {import('./client.js').EncodeOptions['truncate']} options.truncate
 * @returns {Promise<{vectors: number, errors: number}>} How many of each were written.
 */
export async function embedLines(client, { input, output, gate, maxLineBytes, truncate }) {
  const tally = { vectors: 0, errors: 0 };
  const refuse = (/** @type {string} */ id, /** @type {Error} */ error) => {
    tally.errors += 1;
    return writeLine(output, { id, error: { ...error, message: error.message } });
  };
  output.on('error', () => {}); // The next write throws it.
  try {
    const items = toItems(readLines(input, maxLineBytes), refuse);
    for await (const reply of client.embedStream(items, gate, { truncate })) {
      if (reply.error) {
        await refuse(reply.id, reply.error);
        continue;
      }
      tally.vectors += 1;
      await writeLine(output, { id: reply.id, vector: [...reply.vectors.row(0)] });
    }
    output.end();
    await finished(output);
  } finally {
    input.destroy();
  }
  return tally;
}

/**
 * @param {AsyncIterable<string | BadLine>} lines
 * @param {(id: string, error: BadLine) => Promise<void>} refuse Told of lines that are not sent.
 */
async function* toItems(lines, refuse) {
  let number = 0;
  for await (const text of lines) {
    number += 1;
    const id = String(number);
    if (text instanceof BadLine) await refuse(id, text);
    else yield { id, text };
  }
}

/**
 * @param {import('node:stream').Writable & {errored: Error | null}} output
 * @param {object} value
 */
async function writeLine(output, value) {
  const hasRoom = output.write(`${JSON.stringify(value)}\n`);
  if (output.errored) throw output.errored;
  if (!hasRoom) await once(output, 'drain');
}
