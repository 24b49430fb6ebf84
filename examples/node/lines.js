/** Lines of a file of any size, of lines of any length, in bounded memory. */

const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** A line that is not a text that could be embedded. */
export class BadLine extends Error {
  code = 'INVALID_ARGUMENT';
  reason = 'BAD_LINE';
}

/**
 * Yields the lines of UTF-8 text. Of a line that is too long no more is kept than the bound,
 * and what is yielded for it is a `BadLine`, as for one that is not UTF-8.
 *
 * @param {AsyncIterable<Buffer>} chunks Such as an open file.
 * @param {number} maxLineBytes
 * @returns {AsyncGenerator<string | BadLine, void, undefined>}
 */
export async function* readLines(chunks, maxLineBytes) {
  const line = new Line(maxLineBytes);
  for await (const chunk of chunks) {
    let start = 0;
    for (let end; (end = chunk.indexOf(NEWLINE, start)) !== -1; start = end + 1) {
      line.add(chunk.subarray(start, end));
      yield line.take();
    }
    line.add(chunk.subarray(start));
  }
  if (line.sizeBytes > 0) yield line.take();
}

/** The line that is being read. */
class Line {
  /** @type {Buffer[]} */
  #parts = [];
  sizeBytes = 0;

  /** @param {number} maxBytes */
  constructor(maxBytes) {
    this.maxBytes = maxBytes;
  }

  /** @param {Buffer} part */
  add(part) {
    this.sizeBytes += part.length;
    if (this.sizeBytes > this.maxBytes) this.#parts = [];
    else this.#parts.push(part);
  }

  /** Returns the line and starts the next. */
  take() {
    const [parts, sizeBytes] = [this.#parts, this.sizeBytes];
    this.#parts = [];
    this.sizeBytes = 0;
    if (sizeBytes > this.maxBytes) {
      return new BadLine(`the line has ${sizeBytes} bytes; the server takes ${this.maxBytes}`);
    }
    return decode(Buffer.concat(parts));
  }
}

/** @param {Buffer} bytes */
function decode(bytes) {
  const end = bytes.at(-1) === RETURN ? bytes.length - 1 : bytes.length;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, end));
  } catch (error) {
    return new BadLine('the line is not UTF-8', { cause: error });
  }
}
