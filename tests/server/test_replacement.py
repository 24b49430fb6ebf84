"""Another model beside one that is served: whether it is loaded, and whether it fits."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from unitvec_server.engine.loading import LoadedModel, load_model
from unitvec_server.engine.replacement import load_beside
from unitvec_server.errors import ArtifactError
from unitvec_server.flags import parse_config
from unitvec_server.model.artifact import MANIFEST_FILE
from unitvec_server.model.memory import Footprint

HUGE = 2**60


@pytest.fixture(scope="module")
def present(artifact: Path) -> LoadedModel:
    """The tiny model, served."""
    config = parse_config(["--model", str(artifact), "--precision", "fp32"], {})
    return load_model(config.model[0], config)


@pytest.fixture
def other(artifact: Path, tmp_path: Path) -> Path:
    """The same model with shorter texts."""
    folder = tmp_path / "other"
    shutil.copytree(artifact, folder)
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_seq_length": 16}))
    return folder


def load(present: LoadedModel, folder: Path, footprint: Footprint) -> LoadedModel | None:
    model = dataclasses.replace(present.model, footprint=footprint)
    config = parse_config(["--model", f"current={folder}", "--precision", "fp32"], {})
    return load_beside(model, config.model[0], config, workers=2)


def test_the_same_is_not_loaded(present: LoadedModel, artifact: Path) -> None:
    assert load(present, artifact, Footprint(1, HUGE, HUGE)) is None


def test_another_is_loaded(present: LoadedModel, other: Path) -> None:
    """It is expected to take no less than the present one does, and keeps the width of its runs."""
    loaded = load(present, other, present.model.footprint)
    assert loaded is not None
    assert loaded.model.manifest.max_seq_length == 16
    assert loaded.model.max_batch_tokens == present.model.max_batch_tokens
    assert loaded.model.footprint.run_bytes >= present.model.footprint.run_bytes


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "footprint", [Footprint(1, HUGE, 0), Footprint(1, 0, HUGE)], ids=["model", "runs"]
)
def test_what_does_not_fit_is_refused_before_it_is_loaded(
    present: LoadedModel, other: Path, footprint: Footprint
) -> None:
    for graph in other.glob("*.onnx"):
        graph.unlink()  # so that loading would fail for another reason
    with pytest.raises(ArtifactError, match=r"does not fit beside the present one.* MiB are left"):
        load(present, other, footprint)


def test_a_footprint_grows_with_the_graph() -> None:
    assert Footprint(10, 30, 4).scaled(20) == Footprint(20, 60, 8)
    assert Footprint(10, 0, 0).scaled(20) == Footprint(20, 20, 0)  # not less than the graph
    assert Footprint().scaled(20) == Footprint(20, 20, 0)  # where nothing was measured
