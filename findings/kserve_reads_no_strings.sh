#!/usr/bin/env bash
# Versions: kserve 0.21.0 (Python 3.11).
# Guess: a KServe model reads the texts of a request by `InferInput.as_string()`, or by `data`, whichever of the protocol's
#   forms they came in: JSON or a binary tensor over REST, typed contents or a binary tensor over gRPC.
# Seen: `as_string()` works in none of the four. With a binary tensor over gRPC, which its own client and tritonclient send
#   unasked, it returns [] though the texts are there, and so does `data`, and `as_dataframe()` is empty: a model
#   answers for no texts, without an error. In the other forms it raises AttributeError. `as_numpy()` alone has them
#   always, as bytes over gRPC and as str over REST.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check kserve==0.21.0
"$folder/env/bin/python" - 2> /dev/null <<'PYTHON'
import json
import sys

import numpy as np
from kserve import InferInput, InferRequest

TEXTS = np.array(["a cat", "a bank loan"], dtype=object)
SEEN = {
    ("gRPC", "binary"): ([], [], bytes),
    ("gRPC", "typed"): ("AttributeError", [b"a cat", b"a bank loan"], bytes),
    ("REST", "binary"): ("AttributeError", ["a cat", "a bank loan"], str),
    ("REST", "JSON"): ("AttributeError", ["a cat", "a bank loan"], str),
}


def received(protocol, form):
    """The input as a model gets it, sent by KServe's own request."""
    sent = InferInput("text", [len(TEXTS)], "BYTES")
    sent.set_data_from_numpy(TEXTS, binary_data=form == "binary")
    request = InferRequest("model", [sent])
    if protocol == "gRPC":
        return InferRequest.from_grpc(request.to_grpc()).inputs[0]
    body, length = request.to_rest()
    body = body if length else json.dumps(body).encode()
    return InferRequest.from_bytes(body, length or len(body), "model").inputs[0]


def strings(texts):
    try:
        return texts.as_string()
    except AttributeError as exc:
        return type(exc).__name__


seen = {}
for way in SEEN:
    texts = received(*way)
    seen[way] = (strings(texts), texts.data, type(texts.as_numpy()[0]))
    print(f"{', '.join(way)}: as_string {seen[way][0]}, data {texts.data}, as_numpy {texts.as_numpy().tolist()}")
sys.exit(0 if seen == SEEN else 1)
PYTHON
