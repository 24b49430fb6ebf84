"""schemathesis holds the HTTP APIs to their own description, with whatever fits it and does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.environments import CLIENTS, keep_environment, run_in
from tests.serving import serving

TOKEN = "a-token-of-the-tests"
APIS = "openai,tei,cohere,weaviate,metrics,docs"
"""Without the page, which answers browsers at a path that has another method for programs."""

# What fits the description may still be refused: models differ in prompts, dimensions and tokens.
CHECKS = ("--checks", "all", "--exclude-checks", "positive_data_acceptance")
EFFORT = ("--max-examples", "12", "--seed", "1", "--generation-deterministic")

pytestmark = pytest.mark.deep


def test_the_server_is_as_it_is_described(prompted_artifact: Path) -> None:
    """No failure of the server, no status, type or body that is not described, no open door."""
    python = keep_environment(CLIENTS)
    flags = ("--model", str(prompted_artifact), "--http-port", "0", "--http-apis", APIS)
    with serving(*flags, variables={"UNITVEC_TOKENS": TOKEN}) as server:
        said = run_in(
            python,
            python.with_name("schemathesis"),
            "--no-color",
            *("run", f"{server.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}"),
            *CHECKS,
            *EFFORT,
            *("--phases", "examples,coverage,fuzzing", "--continue-on-failure"),
        )
        assert re.search(r"(\d+) generated, \1 passed", said), said
        server.channel.close()
