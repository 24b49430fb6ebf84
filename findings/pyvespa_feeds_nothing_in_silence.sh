#!/usr/bin/env bash
# Versions: pyvespa 1.2.9, numpy 2.4.6 (Python 3.11).
# Guess: `feed_iterable` takes vectors as numpy arrays, as the bulk helpers of Elasticsearch and OpenSearch do, or raises;
#   and where documents fail, it raises or logs.
# Seen: it does neither. An array cannot be written as JSON, so that not one request is sent, and the call returns
#   None after all documents, as after a success. What failed, here or by an error of Vespa, is told to `callback` alone,
#   which is optional, as status 599. `.tolist()` on each vector works.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyvespa==1.2.9 numpy==2.4.6
"$folder/env/bin/python" - 2> "$folder/log" <<'PYTHON'
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from vespa.application import Vespa

DOCUMENTS = 3
paths = []


class Server(BaseHTTPRequestHandler):
    """Takes every document, as Vespa's document API does."""

    def do_POST(self):
        paths.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments):
        pass


def feed(vector, **options):
    """Requests that reached the server."""
    paths.clear()
    documents = ({"id": str(i), "fields": {"vector": vector}} for i in range(DOCUMENTS))
    app.feed_iterable(documents, schema="text", **options)
    return len(paths)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
app = Vespa(url="http://127.0.0.1", port=server.server_port)
vector = np.ones(4, np.float32)
statuses = []
arrays, lists = feed(vector), feed(vector.tolist())
feed(vector, callback=lambda reply, _: statuses.append(reply.status_code))
print(f"of {DOCUMENTS} documents with arrays {arrays} reach Vespa, with lists {lists}; nothing is raised")
print(f"a callback is told {statuses}")
sys.exit(0 if (arrays, lists, statuses) == (0, DOCUMENTS, [599] * DOCUMENTS) else 1)
PYTHON
if [ -s "$folder/log" ]; then echo "and this is logged:"; cat "$folder/log"; exit 1; fi
