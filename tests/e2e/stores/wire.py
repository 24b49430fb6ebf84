"""Vectors that come over the protocols of others: OpenAI's base64, Triton's tensors."""

from __future__ import annotations

import contextlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.stores.store import Sample


def read_openai(server: dict[str, Any], texts: list[str]) -> NDArray[Any]:
    from openai import OpenAI

    client = OpenAI(base_url=f"{server['url']}/v1", api_key="none")
    # The client itself asks for base64, and makes floats of it.
    reply = client.embeddings.create(model=server["model"], input=texts)
    return np.array([each.embedding for each in reply.data], np.float32)


def read_triton(server: dict[str, Any], texts: list[str]) -> NDArray[Any]:
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(server["target"])
    values = triton.InferInput("TEXT", [len(texts), 1], "BYTES")
    values.set_data_from_numpy(np.array(texts, dtype=object)[:, None])
    found = client.infer(server["model"], [values]).as_numpy("embedding")
    assert found is not None
    return found


def observe(folder: Path) -> dict[str, dict[str, str]]:
    """Cells of each client; the server is told by a file in the folder of the sample."""
    server = json.loads((folder / "server.json").read_text())
    expected = Sample.load(folder).rows["float32"][: len(server["texts"])]
    clients = {
        "OpenAI's client, base64": ("openai", read_openai),
        "tritonclient, gRPC": ("tritonclient", read_triton),
    }
    found = {}
    for title, (package, read) in clients.items():
        rows = read(server, server["texts"])
        assert rows.dtype == np.float32
        tolerance = 0 if server["reproducible"] else 1e-5
        np.testing.assert_allclose(rows, expected, rtol=0, atol=tolerance)
        most = server["max_texts"]
        assert len(read(server, ["a"] * most)) == most
        with contextlib.suppress(Exception):
            read(server, ["a"] * (most + 1))
            raise KeyboardInterrupt("no limit of texts")
        found[title] = {
            "version": version(package),
            "float32": "float32, equal to the last bit",
            "limits": f"{most:,} texts of a request",
        }
    return found
