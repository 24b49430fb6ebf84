#!/usr/bin/env bash
# Versions: usearch 2.26.6, numkong 7.8.6, numpy 2.4.6 (Python 3.11).
# Guess: an index with dtype "i8" rounds float32 to the nearest of its 8-bit numbers, as quantization usually does, so that
#   it finds nearly what float32 finds.
# Seen: it multiplies by 127 and cuts toward zero. Values of a unit vector are small (about 6 of 127 for 384 dimensions), so
#   that this takes half a step off each, and of the ten nearest 0.92 are found, by exact search too. Rows that are quantized
#   before, each with a scale of its own and rounded, and given to the same index as int8, find 0.99.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check usearch==2.26.6 numkong==7.8.6 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import sys

import numpy as np
from usearch.index import Index

generator = np.random.default_rng(0)
topics = generator.standard_normal((40, 384))
vectors = topics[generator.integers(0, 40, 2100)] + generator.standard_normal((2100, 384))
vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
scales = np.abs(vectors).max(axis=1, keepdims=True) / 127
codes = np.rint(vectors / scales).astype(np.int8)
best = np.argsort(-(vectors[2000:] @ vectors[:2000].T), axis=1)[:, :10]


def overlap(values):
    index = Index(ndim=384, metric="cos", dtype="i8")
    index.add(np.arange(2000), values[:2000])
    found = index.search(values[2000:], 10, exact=True).keys
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, best)])


index = Index(ndim=384, metric="cos", dtype="i8")
index.add(0, vectors[0])
kept = np.asarray(index.get(0, "i8"))
cut, rounded = np.trunc(vectors[0] * 127), np.rint(vectors[0] * 127)
print(f"kept as cut: {np.mean(kept == cut):.2f} of the values, as rounded: {np.mean(kept == rounded):.2f}")
floats, ints = overlap(vectors), overlap(codes)
print(f"of the ten nearest of float32 are found: {floats:.2f} with float32 given, {ints:.2f} with int8")
sys.exit(0 if (kept == cut).all() and floats < ints - 0.05 else 1)
PYTHON
