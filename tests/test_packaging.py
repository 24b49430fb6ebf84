"""The wheel: what it holds, and that it works in an empty environment."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from unitvec_protos import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "unitvec_client",
    "unitvec_export",
    "unitvec_loadtest",
    "unitvec_protos",
    "unitvec_server",
}
DATA = {
    "unitvec_export/prove/sample.jsonl",
    "unitvec_loadtest/data/default_texts.jsonl",
    "unitvec_loadtest/data/page.html",
    "unitvec_protos/v1/embedding.binpb",
    "unitvec_protos/v1/embedding_pb2.pyi",
    "unitvec_client/py.typed",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built as for a release."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.deep
def test_the_wheel_exposes_only_our_names(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == PACKAGES
    assert set(names) >= DATA


@pytest.mark.deep
def test_the_client_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """The base install brings the client and nothing heavy."""
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    program = (
        "import sys, unitvec_client\n"
        "assert unitvec_client.Client and unitvec_client.AsyncClient\n"
        "heavy = {'torch', 'onnxruntime', 'tokenizers', 'transformers', 'google.rpc'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([python, "-c", program], check=True, cwd=tmp_path, timeout=60)
    listed = [python, "-m", "pip", "list", "--format", "freeze"]
    freeze = subprocess.run(listed, check=True, capture_output=True, text=True, timeout=60).stdout
    names = {line.split("==")[0].lower() for line in freeze.splitlines()}
    allowed = {"grpcio", "numpy", "protobuf", "typing-extensions", "typing_extensions"}
    assert names - {"pip", "setuptools", "unitvec"} <= allowed
    help_text = subprocess.run(
        [str(tmp_path / "env" / "bin" / "unitvec"), "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert "embed" in help_text


def test_the_installed_version_is_the_package_version() -> None:
    assert metadata.version("unitvec") == __version__
