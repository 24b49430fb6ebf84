#!/usr/bin/env bash
# Versions: sentence-transformers 6.2.0, torch 2.13.0, faiss-cpu 1.15.1, usearch 2.26.6 (Python 3.11).
# Guess: `score` of `semantic_search_faiss` and `semantic_search_usearch` is what it is in `semantic_search`, whose fast
#   forms they are: a similarity of about the same size whatever the precision, highest first.
# Seen: it has four meanings. With float32 it is a similarity of faiss and a distance of usearch; with `rescore` (the
#   default) of int8 and bits it is a dot product again; without `rescore` bits give a count of differing bits, and
#   int8 a dot product of codes, negated by usearch. Hits do come best first. A threshold, a mean of two lists or a
#   second sort by `score` is wrong as soon as one argument changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 sentence-transformers==6.2.0 faiss-cpu==1.15.1 usearch==2.26.6
"$folder/env/bin/python" - <<'PYTHON'
import logging
import sys

import numpy as np
from sentence_transformers.util.quantization import (
    quantize_embeddings,
    semantic_search_faiss,
    semantic_search_usearch,
)

logging.disable()
SEARCHES = (
    (semantic_search_faiss, "float32", False, "similarity"),
    (semantic_search_faiss, "uint8", True, "similarity"),
    (semantic_search_faiss, "ubinary", True, "similarity"),
    (semantic_search_faiss, "ubinary", False, "distance"),
    (semantic_search_usearch, "float32", False, "distance"),
    (semantic_search_usearch, "int8", True, "similarity"),
    (semantic_search_usearch, "int8", False, "distance"),
)

vectors = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
as_seen = []
for search, precision, rescore, expected in SEARCHES:
    ((hits,), _) = search(
        vectors[:1],
        corpus_embeddings=quantize_embeddings(vectors, precision),
        corpus_precision=precision,
        calibration_embeddings=vectors,
        rescore=rescore,
        top_k=3,
    )
    scores = [round(hit["score"], 2) for hit in hits]
    kind = "similarity" if scores[0] > scores[-1] else "distance"
    as_seen.append(hits[0]["corpus_id"] == 0 and kind == expected)
    print(f"{search.__name__}, {precision}, rescore={rescore}: {scores}, a {kind}")
sys.exit(0 if all(as_seen) else 1)
PYTHON
