#!/usr/bin/env bash
# Versions: ray 2.60.0, pyarrow 26.0.1, numpy 2.4.6 (Python 3.11).
# Guess: a row whose step returns None in place of a numpy vector is a null among lists in what `write_parquet` writes,
#   and the schema is the same for all files.
# Seen: one None turns the column of its whole block into pickled Python objects: large_binary in Parquet, without a null,
#   which no other reader takes for vectors. Blocks without one stay lists of float32, so that one dataset has files of two
#   schemas; all that tells it is a line in the log of a worker. Return Arrow tables with a fixed-size list (nulls are kept),
#   or NaN in place of None.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "ray[data]==2.60.0" pyarrow==26.0.1 numpy==2.4.6
RAY_raylet_start_wait_time_s=120 RAY_DATA_DISABLE_PROGRESS_BARS=1 "$folder/env/bin/python" - "$folder" <<'PYTHON'
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray

folder = Path(sys.argv[1])
READ = """
import sys
import pyarrow.parquet as pq

vector = pq.read_table(sys.argv[1])["vector"]
print(f"{vector.type}, {vector.null_count} nulls")
"""


def as_numpy(row):
    return {"vector": None if row["id"] == 1 else np.ones(4, np.float32)}


def as_arrow(batch):
    rows = [None if number == 1 else [1.0] * 4 for number in batch["id"].to_pylist()]
    return pa.table({"vector": pa.array(rows, pa.list_(pa.float32(), 4))})


def types(name, dataset):
    """What a program without Ray reads of each file."""
    dataset.write_parquet(str(folder / name))
    read = [sys.executable, "-c", READ]
    files = sorted((folder / name).glob("*.parquet"))
    found = [subprocess.check_output([*read, str(file)], text=True).strip() for file in files]
    print(name, found)
    return set(found)


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
rows = ray.data.range(4, override_num_blocks=2)
numpy_types = types("numpy", rows.map(as_numpy))
arrow_types = types("arrow", rows.map_batches(as_arrow, batch_format="pyarrow"))
ray.shutdown()
pickled = {"large_list<element: float>, 0 nulls", "large_binary, 0 nulls"}
listed = {f"fixed_size_list<element: float>[4], {nulls} nulls" for nulls in (0, 1)}
sys.exit(0 if numpy_types == pickled and arrow_types == listed else 1)
PYTHON
