"""Nothing leaves the machine: no name is looked up, no host is called, nothing is kept at home.

Each program runs under strace with a home of its own and none of the variables that turn telemetry
off, so what is seen is what a user's machine would do.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import TinyModel
from tests.serving import Server

ROOT = Path(__file__).parents[2]

KEPT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "TMPDIR", "UNITVEC_TARGET")
"""Variables that a program needs here. All others might turn off what is looked for."""

SERVE = """
import sys
from tests.serving import serving
from unitvec_protos.v1 import embedding_pb2 as pb
with serving("--model", sys.argv[1], "--metrics-port", "0") as server:
    assert server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).embeddings.rows == 1
"""


CHROMA = """
import sys
import chromadb
from unitvec_client.integrations.chroma import UnitvecEmbeddingFunction
embed = UnitvecEmbeddingFunction(sys.argv[2])
texts = chromadb.EphemeralClient().create_collection("texts", embedding_function=embed)
texts.add(ids=["1"], documents=["a cat"])
assert texts.query(query_texts=["a kitten"])["ids"] == [["1"]]
"""


def traced(command: list[str], log: Path) -> list[str]:
    """The command, watched for whom it and its children talk to."""
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(log), *command]


def can_trace() -> bool:
    """Whether strace is installed and may watch."""
    if not shutil.which("strace"):
        return False
    tried = subprocess.run(traced(["true"], Path(os.devnull)), capture_output=True, check=False)
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is missing or may not trace here")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a program did.

    Attributes:
        calls: Calls of the system that name servers or hosts other than this one.
        files: What it left in its home.
    """

    calls: list[str]
    files: list[str]


Watch = Callable[..., Seen]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Runs a program that must succeed."""
    home = tmp_path / "home"
    home.mkdir()

    def run(*command: str, **variables: str) -> Seen:
        log = tmp_path / "calls"
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        ended = subprocess.run(
            traced([sys.executable, *command], log),
            env={**kept, "HOME": str(home), **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        files = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
        return Seen(list(filter(leaves, log.read_text().splitlines())), files)

    return run


def leaves(line: str) -> bool:
    """Whether a call of the system goes to another host, or to whoever looks up names."""
    if "io.systemd.Resolve" in line or re.search(r"htons\(53\)", line):
        return True
    found = re.search(r'inet_addr\("([^"]*)"|inet_pton\(AF_INET6, "([^"]*)"', line)
    return bool(found) and not re.match(r"127\.|::1$|::ffff:127\.", found[1] or found[2])


SILENT = Seen(calls=[], files=[])


def test_a_look_up_would_be_seen(watch: Watch) -> None:
    """Else silence would prove nothing."""
    look_up = "import socket; socket.getaddrinfo('unitvec.invalid', 1)"
    seen = watch("-c", f"try: {look_up}\nexcept OSError: pass")
    assert seen.calls


def test_serving(watch: Watch, artifact: Path) -> None:
    """Whatever the variable says."""
    assert watch("-c", SERVE, str(artifact), ORT_DISABLE_TELEMETRY="0") == SILENT


def test_export(watch: Watch, tiny_model: Callable[[TinyModel], Path], tmp_path: Path) -> None:
    """int8 too, which runs the graph to calibrate it."""
    source, out = tiny_model(TinyModel()), tmp_path / "out"
    arguments = (str(source), "--out", str(out), "--precision", "fp32,int8")
    assert watch("-m", "unitvec_export.cli", *arguments) == SILENT


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "unitvec_client.cli.main", "embed", "a cat"),
        ("-m", "unitvec_loadtest.cli", "--duration-s", "1", "--concurrency", "1"),
        ("-c", CHROMA),
    ],
    ids=["embed", "loadtest", "chroma"],
)
def test_callers(watch: Watch, minilm_server: Server, command: tuple[str, ...]) -> None:
    assert watch(*command, "--target", minilm_server.target) == SILENT
