/** Vectors as they travel: flat bytes, row-major and little-endian. */

import { endianness } from 'node:os';

/** A matrix of 32-bit floats, all rows in one array. */
export class Matrix {
  /**
   * @param {number} rows
   * @param {number} dim Values in each row.
   * @param {Float32Array} values rows * dim of them.
   */
  constructor(rows, dim, values) {
    this.rows = rows;
    this.dim = dim;
    this.values = values;
  }

  /**
   * Returns one row, a view of `values`.
   *
   * @param {number} index
   */
  row(index) {
    return this.values.subarray(index * this.dim, (index + 1) * this.dim);
  }
}

/**
 * Returns a `unitvec.v1.Matrix` of float32 as it was received.
 *
 * @param {{rows: number, dim: number, dtype: string, data: Buffer}} message
 */
export function decodeMatrix({ rows, dim, dtype, data }) {
  if (dtype !== 'DTYPE_FLOAT32' || data.length !== rows * dim * 4) {
    throw new RangeError(`bad reply: ${rows} x ${dim} of ${dtype} in ${data.length} bytes`);
  }
  return new Matrix(rows, dim, decodeFloats(data));
}

/**
 * Returns the floats without a copy where they lie at a multiple of 4 bytes, as a Float32Array
 * must; a reply's other fields decide where that is.
 *
 * @param {Buffer} data
 */
export function decodeFloats(data) {
  const aligned = data.byteOffset % 4 === 0 && endianness() === 'LE';
  const bytes = aligned ? data : Buffer.from(new Uint8Array(data).buffer);
  if (endianness() === 'BE') bytes.swap32();
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
