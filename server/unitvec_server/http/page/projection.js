// From many dimensions to two, and into clusters. Both are generators, which stop often enough for the
// page to stay smooth, and both are deterministic: the same texts give the same map.
//
// PCA finds the two directions in which the texts differ most, each by power iteration: a vector that
// is multiplied by the covariance again and again turns towards its largest eigenvector. The covariance
// is never formed; the centred vectors are multiplied twice instead. K-means++ spreads its first
// centres by squared distance, and moves each to the mean of its texts until nothing changes; of several
// beginnings the one with the tightest clusters is kept.

import { dot, unit } from "./vectors.js";

const POWER_STEPS = 60;
const CONVERGED = 1e-7;
const KMEANS_STEPS = 30;
const BEGINNINGS = [4, 64]; // Of many texts, and of few, whose clusters depend more on luck.
const TRIED_TEXTS = 10_000; // Texts times beginnings, between these.

// Runs a generator in slices of `slice_ms`, and returns its result; null once `signal` is aborted.
export async function inSlices(steps, signal, slice_ms = 12) {
  let started = performance.now();
  for (let step = steps.next(); ; step = steps.next()) {
    if (signal.aborted) return null;
    if (step.done) return step.value;
    if (performance.now() - started > slice_ms) {
      await new Promise((resolve) => setTimeout(resolve));
      started = performance.now();
    }
  }
}

// Points (x, y) of n vectors, n arrays of D.
export function* project(vectors) {
  const mean = average(vectors);
  const axes = [];
  for (let k = 0; k < 2; k += 1) axes.push(yield* leading(vectors, mean, axes));
  const offsets = axes.map((axis) => dot(mean, axis));
  return vectors.map((vector) => axes.map((axis, k) => dot(vector, axis) - offsets[k]));
}

function* leading(vectors, mean, found) {
  const random = generator(1 + found.length);
  let axis = unit(Float64Array.from(mean, () => random() - 0.5));
  for (let step = 0; step < POWER_STEPS; step += 1) {
    const next = multiply(vectors, mean, axis);
    for (const other of found) subtract(next, other, dot(next, other));
    const turned = unit(next);
    const change = 1 - Math.abs(dot(turned, axis));
    axis = turned;
    yield;
    if (change < CONVERGED) break;
  }
  return signed(axis);
}

function multiply(vectors, mean, axis) {
  const product = new Float64Array(axis.length);
  const offset = dot(mean, axis);
  for (const vector of vectors) {
    const along = dot(vector, axis) - offset;
    for (let i = 0; i < axis.length; i += 1) product[i] += along * (vector[i] - mean[i]);
  }
  return product;
}

// An axis has no direction of its own: its largest part shall be positive.
function signed(axis) {
  const largest = axis.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
  return largest < 0 ? axis.map((value) => -value) : axis;
}

function subtract(from, vector, times) {
  for (let i = 0; i < from.length; i += 1) from[i] -= times * vector[i];
}

function average(vectors) {
  const sum = new Float64Array(vectors[0].length);
  for (const vector of vectors) for (let i = 0; i < sum.length; i += 1) sum[i] += vector[i];
  return sum.map((value) => value / vectors.length);
}

// The number of each vector's cluster, and of the text nearest to each centre; the largest is first.
export function* cluster(vectors, count) {
  let best = { loss: Infinity };
  const [fewest, most] = BEGINNINGS;
  const beginnings = Math.max(fewest, Math.min(most, TRIED_TEXTS / vectors.length));
  for (let seed = 1; seed <= beginnings; seed += 1) {
    const found = yield* settle(vectors, yield* spread(vectors, count, generator(seed)));
    if (found.loss < best.loss) best = found;
  }
  return ordered(vectors, best.numbers, best.centres);
}

function* settle(vectors, centres) {
  let numbers = [];
  for (let step = 0; step < KMEANS_STEPS; step += 1) {
    const next = [];
    for (const vector of vectors) {
      next.push(nearest(centres, vector));
      if (next.length % 500 === 0) yield;
    }
    const same = next.every((number, i) => number === numbers[i]);
    numbers = next;
    if (same) break;
    centres = centres.map((centre, k) => {
      const members = vectors.filter((_, i) => numbers[i] === k);
      return members.length ? average(members) : centre;
    });
    yield;
  }
  const loss = vectors.reduce((sum, vector, i) => sum + squared(vector, centres[numbers[i]]), 0);
  return { numbers, centres, loss };
}

function* spread(vectors, count, random) {
  const centres = [vectors[Math.floor(random() * vectors.length)]];
  const distances = vectors.map(() => Infinity);
  while (centres.length < count) {
    let total = 0;
    for (let i = 0; i < vectors.length; i += 1) {
      distances[i] = Math.min(distances[i], squared(vectors[i], centres.at(-1)));
      total += distances[i];
    }
    yield;
    if (total < 1e-9) break; // All the others are where a centre is.
    let left = random() * total;
    centres.push(vectors[distances.findIndex((distance) => (left -= distance) < 0)] ?? vectors.at(-1));
  }
  return centres;
}

function ordered(vectors, numbers, centres) {
  const sizes = centres.map((_, k) => numbers.filter((number) => number === k).length);
  const order = sizes.map((_, k) => k).filter((k) => sizes[k]).sort((a, b) => sizes[b] - sizes[a]);
  const typical = order.map((k) => {
    let best = -1;
    numbers.forEach((number, i) => {
      if (number !== k) return;
      if (best < 0 || squared(vectors[i], centres[k]) < squared(vectors[best], centres[k])) best = i;
    });
    return best;
  });
  return { numbers: numbers.map((number) => order.indexOf(number)), sizes: order.map((k) => sizes[k]), typical };
}

function nearest(centres, vector) {
  let [best, least] = [0, Infinity];
  centres.forEach((centre, k) => {
    const distance = squared(vector, centre);
    if (distance < least) [best, least] = [k, distance];
  });
  return best;
}

function squared(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += (a[i] - b[i]) ** 2;
  return sum;
}

// Mulberry32: random numbers from 0 to 1 that are the same each time.
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
