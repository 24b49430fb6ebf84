#!/usr/bin/env bash
# Versions: faiss-cpu 1.15.1, numpy 2.4.6 (Python 3.11).
# Guess: IndexFlatL2 is exact, so that a vector is at distance 0 from itself, however many queries a search has.
# Seen: from 128,000 queries x dimensions on (334 queries of 384), distances are no longer summed from differences, but made of
#   squares and a matrix product, and those of equal vectors are up to 1e-6. A search for duplicates by
#   `distance == 0` finds all of them in small batches and misses a third in large ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import sys

import faiss
import numpy as np

vectors = np.random.default_rng(0).standard_normal((1000, 384)).astype(np.float32)
faiss.normalize_L2(vectors)
index = faiss.IndexFlatL2(384)
index.add(vectors)
shares = {}
for count in (20, 333, 334, 1000):
    distances = index.search(vectors[:count], 1)[0][:, 0]
    shares[count] = np.mean(distances == 0)
    print(f"{count:>5} queries: {shares[count]:.2f} of the vectors are at distance 0 from themselves, most {distances.max():.1e}")
sys.exit(0 if shares[20] == shares[333] == 1 and shares[334] < 0.9 and shares[1000] < 0.9 else 1)
PYTHON
