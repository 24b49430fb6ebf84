#!/usr/bin/env bash
# Versions: grpcio 1.85.1 (Python 3.11).
# Guess: `grpc.min_reconnect_backoff_ms` sets the shortest pause between two attempts to connect, as its name says;
#   lowering it makes a client reconnect sooner and changes nothing else.
# Seen: it also is the time that one attempt to connect may take (20 s by default). With 300 ms, a server that takes
#   longer to shake hands, because it is busy or far away, is given up after 300 ms, and again each time, so a client
#   that only meant to reconnect sooner never connects to it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.1
"$folder/env/bin/python" - <<'PYTHON'
import queue
import socket
import sys
import time

import grpc

WAIT_S = 5.0

slow = socket.create_server(("127.0.0.1", 0))  # takes connections, and is slow to say anything
target = f"127.0.0.1:{slow.getsockname()[1]}"


def give_up_s(options):
    """Seconds until the first attempt to connect is given up; WAIT_S if it is not by then."""
    states = queue.Queue()
    with grpc.insecure_channel(target, options) as channel:
        channel.subscribe(states.put, try_to_connect=True)
        started_s = time.monotonic()
        while (left_s := started_s + WAIT_S - time.monotonic()) > 0:
            try:
                state = states.get(timeout=left_s)
            except queue.Empty:
                break
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                return time.monotonic() - started_s
    return WAIT_S


default_s = give_up_s([])
lowered_s = give_up_s([("grpc.min_reconnect_backoff_ms", 300)])
print(f"by default an attempt lasts {'over ' if default_s >= WAIT_S else ''}{default_s:.1f} s")
print(f"with a backoff of at least 300 ms it is given up after {lowered_s:.1f} s")
sys.exit(0 if default_s >= WAIT_S and lowered_s < WAIT_S else 1)
PYTHON
