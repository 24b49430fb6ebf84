#!/usr/bin/env bash
# Versions: sqlite-vec 0.1.9, apsw 3.54.1.0, numpy 2.4.6 (Python 3.11).
# Guess: vec_quantize_binary makes of a vector the bits that numpy.packbits makes of its signs, and pgvector's binary_quantize:
#   the first value in the highest bit of the first byte. So a table may be filled with bits of either.
# Seen: it puts the first value in the lowest bit. Both kinds have the right length and are taken without a word; a vector
#   is as far from itself in the other order as from any other vector, and what is found among mixed rows is chance.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check sqlite-vec==0.1.9 apsw==3.54.1.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import sys

import apsw
import numpy as np
import sqlite_vec

connection = apsw.Connection(":memory:")
connection.enable_load_extension(True)
sqlite_vec.load(connection)
vectors = np.random.default_rng(0).standard_normal((100, 384)).astype(np.float32)


def differing(bits):
    sql = "SELECT vec_distance_hamming(vec_quantize_binary(?), vec_bit(?))"
    pairs = zip(vectors, bits)
    return [next(connection.execute(sql, (v.tobytes(), b.tobytes())))[0] for v, b in pairs]


highest = differing(np.packbits(vectors > 0, axis=1))
lowest = differing(np.packbits(vectors > 0, axis=1, bitorder="little"))
print(f"of 384 bits differ from numpy.packbits: {np.mean(highest):.0f}, with bitorder='little': {np.mean(lowest):.0f}")
sys.exit(0 if min(highest) > 100 and max(lowest) == 0 else 1)
PYTHON
