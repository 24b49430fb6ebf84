#!/usr/bin/env bash
# Versions: datasets 5.2.0, numpy 2.4.6 (Python 3.11).
# Guess: a column of type uint8, int8, float16 or float64 comes back from `with_format("numpy")` as that.
# Seen: all integers come back as int64 and all fractions as float32, whatever the features say (PyTorch's format does
#   the same). Binary codes are eight times the size, and an index of bits takes them for something else or refuses
#   them; float64 loses half its digits. The types are right in the file and in the "arrow" format.
#   `with_format("numpy", columns=..., dtype=...)` gives one dtype to all the columns named.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6
HF_HOME="$folder" "$folder/env/bin/python" - <<'PYTHON'
import sys

import numpy as np
from datasets import Dataset, Features, List, Value

EXPECTED = {"uint8": "int64", "int8": "int64", "float16": "float32", "float64": "float32"}

columns = {dtype: list(np.zeros((4, 48), dtype)) for dtype in EXPECTED}
features = Features({dtype: List(Value(dtype), length=48) for dtype in EXPECTED})
dataset = Dataset.from_dict(columns, features=features)
stored = {name: str(dataset.with_format("arrow")[:][name].type.value_type) for name in EXPECTED}
read = {name: str(values.dtype) for name, values in dataset.with_format("numpy")[:].items()}
for name in EXPECTED:
    print(f"a column of {name}: stored as {stored[name]}, read as {read[name]}")
sys.exit(0 if read == EXPECTED else 1)
PYTHON
