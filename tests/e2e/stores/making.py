"""Vectors of a live server for the stores, and the processes that stores run in."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.artifacts import REPOSITORY
from tests.e2e.stores.files import DTYPES, FAILED_ROW
from tests.e2e.stores.store import Sample
from tests.environments import CLIENTS, keep_environment
from tests.serving import Server, serving
from unitvec_client import Client
from unitvec_client.cli.main import main

ROWS, QUERIES = 400, 50
TEXTS_OVER_WIRE = 20
OWN_ENVIRONMENT = Path(__file__).with_name("requirements.txt")
"""hnswlib and annoy want a compiler; the index of DuckDB is a package for DuckDB 1 alone."""
ENVIRONMENTS = {"compiled": OWN_ENVIRONMENT, "wire": CLIENTS}
"""Of modules whose packages do not install beside ours."""
MODULES = ("libraries", "databases", "sql", "files", *ENVIRONMENTS)


@contextlib.contextmanager
def sampled(artifact: Path, folder: Path) -> Iterator[None]:
    """A server whose vectors of glosses lie in the folder."""
    lines = (REPOSITORY / "examples/data/glosses.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines[:: len(lines) // (ROWS + QUERIES)]]
    with serving("--model", str(artifact), "--http-port", "0") as server:
        _save(server, texts[:ROWS], texts[ROWS : ROWS + QUERIES], folder)
        yield


def _save(server: Server, documents: list[str], queries: list[str], folder: Path) -> None:
    with Client(server.target) as client:
        parts = [_vectors(client, texts) for texts in (documents, queries)]
        info = client.models()
    Sample(*parts).save(folder)
    told = {
        "url": server.url,
        "target": server.target,
        "model": info.models[0].name,
        "reproducible": info.models[0].reproducible,
        "max_texts": info.limits.max_texts_per_request,
        "texts": documents[:TEXTS_OVER_WIRE],
    }
    (folder / "server.json").write_text(json.dumps(told))
    _embed(server, documents, folder)


def _vectors(client: Client, texts: list[str]) -> dict[str, Any]:
    results = {dtype: client.embed_result(texts, dtype=dtype) for dtype in DTYPES}
    scales = {"scales": results["int8"].scales}
    return {dtype: result.vectors for dtype, result in results.items()} | scales


def _embed(server: Server, texts: list[str], folder: Path) -> None:
    """Files of `unitvec embed`, in which one row failed."""
    source = folder / "texts.jsonl"
    records: list[dict[str, Any]] = [{"text": text} for text in texts]
    records.insert(FAILED_ROW, {"no": "text"})
    source.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for dtype in DTYPES:
        for suffix in ("parquet", "npy"):
            output = folder / f"{dtype}.{suffix}"
            flags = ("--target", server.target, "--dtype", dtype, "-o", str(output))
            assert main(["embed", "-i", str(source), *flags]) == 1


def observe(module: str, folder: Path) -> dict[str, dict[str, str]]:
    """Cells by title of the stores of a module, observed in a process of its own."""
    requirements = ENVIRONMENTS.get(module)
    python = keep_environment(requirements) if requirements else Path(sys.executable)
    command = [str(python), "-m", "tests.e2e.stores.observe", module, str(folder)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found
