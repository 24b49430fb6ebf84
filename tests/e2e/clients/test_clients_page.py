"""Every block of `docs/clients.md`: the vectors of unitvec's own API, and what errors look like.

Each block runs in a process of its own, with its client as its makers publish it: against a server
that serves, with a model that is not served, with a text that is too large, against a server that
wants a token, and against one that is shutting down.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.artifacts import REPOSITORY
from tests.e2e.faulty_server import HOLD, RELEASE, text
from tests.environments import CLIENTS, keep_environment, run_in
from tests.serving import Server, ServerProcess, serving
from unitvec_protos.v1 import embedding_pb2 as pb

HERE = Path(__file__).parent
PAGE = (REPOSITORY / "docs" / "clients.md").read_text("utf-8")
MODEL = "all-MiniLM-L6-v2"
TEXTS = ["a cat on a mat", "a bank loan"]
PLACE = "http://localhost:8080"
Places = Mapping[str, Mapping[str, str]]
Run = Callable[["Block"], dict[str, Any]]

pytestmark = pytest.mark.deep


class Block(NamedTuple):
    """A block of the page."""

    client: str
    language: str
    code: str


class Failures(NamedTuple):
    """How a client shows that something is wrong: name of the error, and words in its text.

    `model` is None where the client names no model to the server.
    """

    model: tuple[str, str] | None
    token: tuple[str, str]
    large: tuple[str, str]
    gone: tuple[str, str]


def read_blocks() -> dict[str, Block]:
    """All blocks, by the client and a number where it has several."""
    found: dict[str, Block] = {}
    for section in PAGE.split("\n## ")[1:]:
        client = section.partition("\n")[0]
        blocks = re.findall(r"```(python|js)\n(.*?)```", section, re.DOTALL)
        for number, (language, code) in enumerate(blocks):
            name = f"{client} {number + 1}" if number else client
            found[name] = Block(client, language, code)
    return found


BLOCKS = read_blocks()
OPENAI = Failures(
    ("NotFoundError", f"no model 'nope'; served: {MODEL}"),
    ("AuthenticationError", "no valid token"),
    ("BadRequestError", "the limit max_text_bytes is"),
    ("APIConnectionError", "Connection error"),
)
HUGGING_FACE = Failures(
    None,
    ("HfHubHTTPError", "no valid token"),
    ("HfHubHTTPError", "the limit max_text_bytes is"),
    ("ConnectError", "refused"),
)
FAILURES = {
    "Hugging Face": HUGGING_FACE,
    "LangChain 2": HUGGING_FACE,
    "Haystack 2": HUGGING_FACE,
    "Cohere": Failures(
        OPENAI.model,
        ("UnauthorizedError", "no valid token"),
        OPENAI.large,
        HUGGING_FACE.gone,
    ),
    "LiteLLM": OPENAI._replace(gone=("InternalServerError", "Connection error")),
    "Weaviate": Failures(None, ("HTTPError", "401"), ("HTTPError", "400"), ("URLError", "refused")),
    # These look at no status, and take the body of an error for vectors.
    "tei-client": Failures(
        None, ("KeyError", "model_type"), ("TypeError", "float"), HUGGING_FACE.gone
    ),
    "LlamaIndex 2": Failures(
        None,
        ("ValidationError", "no valid token"),
        ("ValidationError", "inputs[1] has"),
        HUGGING_FACE.gone,
    ),
    "Chroma 2": Failures(
        None, ("ValueError", "'error'"), ("ValueError", "'error'"), HUGGING_FACE.gone
    ),
}
"""Of the blocks whose clients are not built on OpenAI's own."""


@pytest.fixture(scope="module")
def python() -> Path:
    """A Python with the clients."""
    return keep_environment(CLIENTS)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients for Node."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("clients") / "node"
    shutil.copytree(HERE / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run([npm, "ci", "--no-progress"], cwd=folder, check=True, timeout=240)
    return folder


@pytest.fixture(scope="module")
def server(minilm_artifact: Path) -> Iterator[Server]:
    flags = ("--model", f"{MODEL}={minilm_artifact}", "--precision", "fp32", "--http-port", "0")
    with serving(*flags) as made:
        yield made


@pytest.fixture(scope="module")
def guarded_url(artifact: Path) -> Iterator[str]:
    """Where a server is that wants a token."""
    flags = ("--model", f"{MODEL}={artifact}", "--http-port", "0")
    with serving(*flags, variables={"UNITVEC_TOKENS": "a-token-of-the-tests"}) as made:
        yield made.url


@pytest.fixture(scope="module")
def draining_url(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server shuts down, which still works on a request of another client."""
    release = tmp_path_factory.mktemp("draining") / "release"
    process = ServerProcess(
        *(
            "--model",
            f"{MODEL}={artifact}",
            "--provider",
            "cpu",
            "--http-port",
            "0",
            "--grace-s",
            "600",
        ),
        variables={RELEASE: str(release)},
        module="tests.e2e.faulty_server",
    )
    with contextlib.ExitStack() as stack:
        stack.callback(process.stop, signal.SIGKILL)
        made = Server(process)
        held = made.stub.Embed.future(pb.EmbedRequest(texts=[text(HOLD)]))
        process.wait_for_line("on hold")
        process.send(signal.SIGTERM)
        process.wait_for_line("finishing what is in flight")
        yield made.url
        release.touch()
        assert held.result().embeddings.rows == 1
        made.channel.close()
        assert process.wait() == 0


@pytest.fixture(scope="module")
def places(server: Server, guarded_url: str, draining_url: str) -> Places:
    """What is replaced in a block, by what is then to be seen."""
    here = {PLACE: server.url}
    return {
        "served": here,
        "model": {**here, MODEL: "nope"},
        "token": {PLACE: guarded_url},
        "large": {**here, TEXTS[1]: "loan " * 60_000},
        "gone": {PLACE: draining_url},
    }


@pytest.fixture(scope="module")
def expected(server: Server) -> Any:
    """Vectors of unitvec's own API."""
    matrix = server.stub.Embed(pb.EmbedRequest(texts=TEXTS)).embeddings
    return np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.dim)


@pytest.fixture
def run(request: pytest.FixtureRequest, places: Places, tmp_path: Path) -> Run:
    """Runs a block, and returns what it gives in each place."""

    def begin(block: Block) -> dict[str, Any]:
        if block.language == "js":
            program = request.getfixturevalue("node") / "run_block.js"
            interpreter = Path(str(shutil.which("node")))
        else:
            program, interpreter = HERE / "run_block.py", request.getfixturevalue("python")
        code, where = tmp_path / "block", tmp_path / "places.json"
        code.write_text(block.code, encoding="utf-8")
        where.write_text(json.dumps(places), encoding="utf-8")
        printed = run_in(interpreter, program, str(code), str(where))
        found: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return found

    return begin


@pytest.mark.parametrize("name", BLOCKS)
def test_block(name: str, run: Run, expected: Any) -> None:
    found = run(BLOCKS[name])
    served = found.pop("served")
    assert "vectors" in served, served
    assert np.array(served["vectors"], np.float32).tobytes() == expected.tobytes()
    for place, wanted in FAILURES.get(name, OPENAI)._asdict().items():
        outcome = found.pop(place)
        if wanted is not None:
            kind, words = wanted
            assert (outcome.get("error"), words in outcome.get("text", "")) == (kind, True), outcome
    assert not found


def test_all_clients_of_the_table_have_a_block() -> None:
    table = re.findall(r"^\| \[([^]]+)\]\(#", PAGE, re.MULTILINE)
    assert {block.client for block in BLOCKS.values()} - {"OpenAI for Node"} == set(table)
