"""One server of all-MiniLM-L6-v2 and of a tiny model with prompts; frameworks stay offline."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import disable_socket, enable_socket

from tests.conftest import PROMPTS
from tests.models import TinyModel
from tests.serving import Server, serving
from unitvec_client import Client

CACHE_BYTES = 64 * 2**20
TOKEN = "a-token-of-the-tests"
PROMPTED = TinyModel(pooling="cls", prompts=PROMPTS, default_prompt_name="query")


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    """No framework may open a connection of its own. gRPC's are not Python's."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture(autouse=True)
def no_chroma_left() -> Iterator[None]:
    """Chroma keeps one ephemeral store for a process, and all its settings."""
    _forget_chroma()
    yield
    _forget_chroma()


def _forget_chroma() -> None:
    if sys.modules.get("chromadb"):
        from chromadb.api.client import SharedSystemClient

        SharedSystemClient.clear_system_cache()


@pytest.fixture(scope="session")
def server(minilm_artifact: Path, prompted_artifact: Path) -> Iterator[Server]:
    models = (
        "--precision",
        "fp32",
        "--model",
        str(minilm_artifact),
        "--model",
        f"prompted={prompted_artifact}",
    )
    with serving(*models, "--cache-bytes", str(CACHE_BYTES)) as made:
        yield made


@pytest.fixture(scope="session")
def target(server: Server) -> str:
    """host:port of the server; its default model is all-MiniLM-L6-v2."""
    return server.target


@pytest.fixture(scope="session")
def client(target: str) -> Iterator[Client]:
    with Client(target) as made:
        yield made


@pytest.fixture(scope="session")
def guarded_target(artifact: Path) -> Iterator[str]:
    """host:port of a server of a tiny model that wants `TOKEN`."""
    with serving("--model", str(artifact), variables={"UNITVEC_TOKENS": TOKEN}) as made:
        yield made.target


@pytest.fixture(scope="session")
def prompted_model(tiny_model: Callable[[TinyModel], Path]) -> Any:
    """The tiny model with the prompts `query: ` and `passage: `, in sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(tiny_model(PROMPTED)), device="cpu")
