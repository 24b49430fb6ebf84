"""The extra `export-optimum`, for those held at transformers 4, in an environment of its own.

Opt-in, for it installs torch anew: UNITVEC_TEST_DOWNLOAD=1 pytest -m download tests/export
"""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.artifacts import REPOSITORY, keep_model
from tests.environments import keep_environment
from tests.models import TinyModel
from unitvec_server.model.artifact import load_artifact

pytestmark = [
    pytest.mark.download,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("UNITVEC_TEST_DOWNLOAD") != "1",
        reason="installs torch; set UNITVEC_TEST_DOWNLOAD=1",
    ),
]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`unitvec-export` of these sources, beside transformers 4."""
    text = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    extra = tomllib.loads(text)["project"]["optional-dependencies"]["export-optimum"]
    wanted = [f"--editable {REPOSITORY}[export-optimum]", "torch==2.13.0", *extra]
    requirements = tmp_path_factory.mktemp("environment") / "requirements.txt"
    requirements.write_text(
        "\n".join(line for line in wanted if not line.startswith("unitvec[")), "utf-8"
    )
    return keep_environment(requirements).with_name("unitvec-export")


def run(command: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs it without anything of this environment."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [command, *args], env=env, capture_output=True, text=True, timeout=600, check=False
    )


def test_the_packaged_model_is_traced_and_proved(command: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(command, "--out", out)
    assert done.returncode == 0, done.stderr
    manifest = load_artifact(out).manifest
    assert manifest.graphs["fp32"].parity.cosine_min >= 0.99999
    assert manifest.provenance.libraries["transformers"].startswith("4.")
    assert "optimum-onnx" in manifest.provenance.libraries


def test_what_transformers_5_saved_is_refused(command: Path, tmp_path: Path) -> None:
    done = run(command, keep_model(TinyModel()), "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "was saved by transformers 5" in done.stderr
    assert not (tmp_path / "out").exists()
