"""The commands of docs/http.md do what the page says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.serving import Server

PAGE = (Path(__file__).parents[3] / "docs" / "http.md").read_text("utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_answered(http_server: Server, command: str) -> None:
    told = command.replace("http://localhost:8080", http_server.url)
    told = told.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    done = subprocess.run(told, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)


def test_paths_are_those_that_are_served(http_server: Server) -> None:
    """Of every row of the table, but those of other methods of the same path."""
    table = PAGE.split("| API | paths |")[1].split("\n\n")[0]
    named = set(re.findall(r"(?<=[ `])(/[\w/.]*)", re.sub(r"\]\([^)]*\)", "", table)))
    named = {path.rstrip("/") or "/" for path in named}
    served = httpx.get(f"{http_server.url}/openapi.json").json()["paths"]
    shown = {path.replace("/{id}", "") for path in served}
    probes = {path for path in shown if path.startswith("/.")} | {"/livez", "/readyz", "/health"}
    assert named - {"/docs", "/openapi.json"} == shown - probes
