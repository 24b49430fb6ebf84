#!/usr/bin/env bash
# Versions: uvicorn 0.54.0, httptools 0.9.0, h11 0.16.0 (Python 3.11).
# Guess: on a connection with several requests ahead of their answers, answers come in the order of the requests, as
#   HTTP/1.1 has it, also where the last of them is no request and is refused with 400.
# Seen: the 400 is written at once, in front of the answer that is still being made, and the connection closed. The
#   client takes it for the answer to its first request, which was fine; that request's own answer is lost. It is so with
#   httptools, which uvicorn takes where it is installed; with h11 the 400 comes after the answer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0
"$folder/env/bin/python" - <<'PYTHON'
import asyncio
import logging
import re
import sys

import uvicorn

logging.disable(logging.CRITICAL)


async def ask(parser):
    may_answer = asyncio.Event()

    async def app(scope, receive, send):
        await may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    server = uvicorn.Server(uvicorn.Config(app, port=0, http=parser, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /fine HTTP/1.1\r\nhost: x\r\n\r\nno request\r\n\r\n")
    await asyncio.sleep(0.5)  # the handler has the first one, and the second is refused
    may_answer.set()
    replies = await reader.read()
    writer.close()
    server.should_exit = True
    await serving
    return re.findall(rb"HTTP/1.1 (\d+)", replies)


found = {parser: asyncio.run(ask(parser)) for parser in ("httptools", "h11")}
for parser, statuses in found.items():
    print(f"{parser}: answers to a request that is fine and to one that is none: {statuses}")
sys.exit(0 if found == {"httptools": [b"400"], "h11": [b"200", b"400"]} else 1)
PYTHON
