#!/usr/bin/env bash
# Versions: sentence-transformers 6.2.0, torch 2.13.0 (Python 3.11).
# Guess: `dot_score` of int8 embeddings, and `semantic_search` with it, computes in a type that holds the result or
#   refuses integers, as `cos_sim` does.
# Seen: it multiplies and adds in int8, so that every score is the right one modulo 256: noise between -128 and 127.
#   What comes back looks like a ranking. Of 100 queries that are in the corpus none finds itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 sentence-transformers==6.2.0
"$folder/env/bin/python" - <<'PYTHON'
import sys

import numpy as np
from sentence_transformers.util import dot_score, quantize_embeddings, semantic_search

QUERIES = 100

vectors = np.random.default_rng(0).normal(size=(1000, 384)).astype(np.float32)
codes = quantize_embeddings(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), "int8")


def find_themselves(corpus):
    found = semantic_search(corpus[:QUERIES], corpus, score_function=dot_score, top_k=1)
    return sum(hits[0]["corpus_id"] == query for query, hits in enumerate(found))


score = int(dot_score(codes[:1], codes[:1])[0, 0])
right = int(codes[0].astype(int) @ codes[0].astype(int))
as_int8, as_float = find_themselves(codes), find_themselves(codes.astype(np.float32))
print(f"score of a vector with itself: {score}, where {right} is right")
print(f"of {QUERIES} queries from the corpus {as_int8} find themselves, as float32 {as_float}")
sys.exit(0 if score == (right + 128) % 256 - 128 and as_int8 < QUERIES // 2 < as_float else 1)
PYTHON
