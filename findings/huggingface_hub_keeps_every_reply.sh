#!/usr/bin/env bash
# Versions: huggingface_hub 1.33.0, httpx 0.28.1, numpy 2.4.6 (Python 3.11).
# Guess: an `InferenceClient` holds a connection or two; what `feature_extraction` returned is freed with the array.
# Seen: the client keeps the body of every reply until it is closed, though each was read to its end. Embedding a
#   million texts through one client, as any loop does, holds all the vectors as JSON text besides the arrays: 5 KB for
#   each of 384 dimensions. A client in a `with` block for each part of the work frees them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  huggingface_hub==1.33.0 httpx==0.28.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import gc
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from huggingface_hub import InferenceClient

REPLY = json.dumps([[0.0123456789] * 384] * 64).encode()
CALLS = 50


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(REPLY)))
        self.end_headers()
        self.wfile.write(REPLY)

    def log_message(self, *arguments):
        pass


def replies_held():
    gc.collect()
    return sum(isinstance(item, httpx.Response) for item in gc.get_objects())


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
with InferenceClient(base_url=f"http://127.0.0.1:{server.server_port}") as client:
    for _ in range(CALLS):
        client.feature_extraction(["a text"] * 64)
    held = replies_held()
after = replies_held()
print(f"after {CALLS} calls the client holds {held} replies, {held * len(REPLY):,} bytes; closed, {after}")
sys.exit(0 if held >= CALLS and after == 0 else 1)
PYTHON
