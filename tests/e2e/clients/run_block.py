"""Runs a block of `docs/clients.md` in some places and prints what each gives, as JSON.

The arguments are files: the block, and a JSON object that maps the name of each place to the
replacements to make in the block. What the block gives is its vectors, or how it fails.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")  # those of other projects are theirs


def run(code, replacements):
    """The vectors, or the name and the text of the error."""
    for old, new in replacements.items():
        code = code.replace(old, new)
    names = {}
    try:
        exec(code, names)
        return {"vectors": np.array(names["vectors"], np.float32).astype(float).tolist()}
    except Exception as exc:
        return {"error": type(exc).__name__, "text": str(exc)}


block, places = (Path(path).read_text(encoding="utf-8") for path in sys.argv[1:])
print(json.dumps({name: run(block, made) for name, made in json.loads(places).items()}))
