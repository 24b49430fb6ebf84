#!/usr/bin/env bash
# Versions: lancedb 0.40.0, pyarrow 26.0.1, numpy 2.4.6 (Python 3.11).
# Guess: `_distance` of a cosine search is 1 - cosine with any index, but for the error of its quantization.
# Seen: with a scalar-quantized index of metric cosine (IVF_SQ, IVF_HNSW_SQ) it is twice that, the squared distance of the
#   unit vectors; without an index, with IVF_FLAT, or with `refine_factor` it is 1 - cosine. The order is the same: a
#   threshold, or a similarity shown as 1 - `_distance`, changes when the index is built or when a refinement is added.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check lancedb==0.40.0 pyarrow==26.0.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore::DeprecationWarning - "$folder/db" <<'PYTHON'
import sys

import lancedb
import numpy as np
import pyarrow as pa

ROWS, DIMENSIONS = 1000, 32

vectors = np.random.default_rng(0).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSIONS)
table = lancedb.connect(sys.argv[1]).create_table("vectors", pa.table({"vector": column}))


def second_distance(**refine):
    """Distance of the nearest vector but the query itself."""
    query = table.search(vectors[0]).distance_type("cosine").nprobes(4)
    if refine:
        query = query.refine_factor(refine["factor"])
    return query.limit(2).to_list()[1]["_distance"]


right = 1 - np.sort(vectors @ vectors[0])[-2]
ratios = {"no index": second_distance() / right}
for index in ("IVF_FLAT", "IVF_SQ", "IVF_HNSW_SQ"):
    table.create_index(metric="cosine", index_type=index, num_partitions=4, replace=True)
    ratios[index] = second_distance() / right
    ratios[f"{index}, refined"] = second_distance(factor=5) / right
for name, ratio in ratios.items():
    print(f"{name}: {ratio:.2f} times 1 - cosine")
doubled = {name for name, ratio in ratios.items() if ratio > 1.8}
sys.exit(0 if doubled == {"IVF_SQ", "IVF_HNSW_SQ"} else 1)
PYTHON
