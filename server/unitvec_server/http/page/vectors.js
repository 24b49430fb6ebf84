// Arithmetic on vectors, as the server does it: cut, scaled to unit length, and rounded to what a
// number type can hold.

export function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
}

export function unit(vector) {
  const norm = Math.max(Math.sqrt(dot(vector, vector)), 1e-12);
  return vector.map((value) => value / norm);
}

// The vector with fewer dimensions and of another type, as float32 of unit length: dots are cosines.
export function shaped(vector, dimensions, dtype) {
  const cut = dimensions < vector.length ? unit(vector.subarray(0, dimensions)) : vector;
  return dtype === "float32" ? cut : unit(ROUNDED[dtype](cut));
}

export function bytesOf(dimensions, dtype) {
  return { float32: 4 * dimensions, float16: 2 * dimensions, int8: dimensions + 4, binary: Math.ceil(dimensions / 8) }[dtype];
}

const ROUNDED = {
  float16: (vector) => vector.map(toFloat16),
  int8: (vector) => {
    const scale = vector.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127 || 1;
    return vector.map((value) => Math.round(value / scale) * scale);
  },
  binary: (vector) => vector.map((value) => (value > 0 ? 1 : -1)),
};

// 11 bits of precision, and steps of 2^-24 below the least normal number.
function toFloat16(value) {
  if (value === 0) return 0;
  const step = 2 ** Math.max(Math.floor(Math.log2(Math.abs(value))) - 10, -24);
  return Math.round(value / step) * step;
}
