#!/usr/bin/env bash
# Versions: elasticsearch 9.5.1, openai 3.57.0, numpy 2.4.6 (Python 3.11).
# Guess: the base64 that Elasticsearch's client makes for a `dense_vector` is that of OpenAI's API, the float32 values as they lie in
#   memory, so that an embedding asked for as base64 can be indexed without being unpacked.
# Seen: Elasticsearch's client packs each value highest byte first, OpenAI's client reads it lowest byte first. The two strings
#   are of one length, and each is a vector to the other: 384 numbers of which nothing is right, most of them finite. Ask
#   for base64, let OpenAI's client unpack it, and pack it again with `pack_dense_vector`, or send a list of numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check elasticsearch==9.5.1 openai==3.57.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import openai
from elasticsearch.helpers import pack_dense_vector

vector = np.random.default_rng(0).normal(size=384).astype(np.float32)
vector /= np.linalg.norm(vector)


class Embeddings(BaseHTTPRequestHandler):
    """Answers any request to OpenAI's API with one embedding in base64."""

    def do_POST(self):
        entry = {"object": "embedding", "index": 0, "embedding": self.server.packed}
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        body = json.dumps({"object": "list", "data": [entry], "model": "m", "usage": usage}).encode()
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Embeddings)
Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")


def read_by_openai(packed):
    server.packed = packed
    reply = client.embeddings.create(model="m", input="a cat")
    return np.array(reply.data[0].embedding, np.float32)


ours = base64.b64encode(vector.astype("<f4").tobytes()).decode()
theirs = pack_dense_vector(vector)
print("lowest byte first, as OpenAI's client reads it:", read_by_openai(ours)[:3])
print("as Elasticsearch's client packs it:            ", read_by_openai(theirs)[:3])
print("finite:", int(np.isfinite(read_by_openai(theirs)).sum()), "of", len(vector))
is_right = np.array_equal(read_by_openai(ours), vector)
is_reversed = base64.b64decode(theirs) == vector.astype(">f4").tobytes()
sys.exit(0 if is_right and is_reversed and len(ours) == len(theirs) else 1)
PYTHON
