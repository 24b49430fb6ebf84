#!/usr/bin/env bash
# Versions: duckdb 2.0.1, numpy 2.4.6 (Python 3.11).
# Guess: `SELECT * FROM vectors`, where `vectors` is a numpy array of shape (n, d) such as `np.load(..., mmap_mode="r")`
#   gives, is n rows: of d columns, or of one array each.
# Seen: it is d rows of n columns, the array on its side: n vectors make n columns, and COUNT(*) is the dimension. float16
#   is read as FLOAT, right in itself. A square matrix gives no sign of it. `list(vectors)` in a frame, an Arrow table
#   with a fixed-size list, or the Parquet file is read the right way up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 numpy==2.4.6
"$folder/env/bin/python" - "$folder/vectors.npy" <<'PYTHON'
import sys

import duckdb
import numpy as np

np.save(sys.argv[1], np.arange(12, dtype=np.float16).reshape(4, 3))
vectors = np.load(sys.argv[1], mmap_mode="r")  # read by DuckDB under its name
result = duckdb.sql("SELECT * FROM vectors")
columns, types, rows = result.columns, set(map(str, result.types)), result.fetchall()
print(f"an array of shape {vectors.shape} is {len(rows)} rows of {len(columns)} columns, {types}")
print(f"its first vector is {vectors[0].tolist()}, the first row {rows[0]}")
sys.exit(0 if np.array_equal(np.array(rows), vectors.T) and types == {"FLOAT"} else 1)
PYTHON
