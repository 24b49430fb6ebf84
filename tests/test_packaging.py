"""The wheel: what it holds, and that it works in an empty environment."""

from __future__ import annotations

import shlex
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
    "unitvec_bulk",
    "unitvec_client",
    "unitvec_export",
    "unitvec_loadtest",
    "unitvec_protos",
    "unitvec_server",
}
DATA = {
    "unitvec_export/prove/sample.jsonl",
    "unitvec_export/stored/all-MiniLM-L6-v2/graph.onnx",
    "unitvec_export/stored/all-MiniLM-L6-v2/record.json",
    "unitvec_export/stored/all-MiniLM-L6-v2/vectors.npy",
    "unitvec_loadtest/data/default_texts.jsonl",
    "unitvec_loadtest/data/page.html",
    "unitvec_protos/inference/inference.binpb",
    "unitvec_protos/tei/tei.binpb",
    "unitvec_protos/v1/admin.binpb",
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


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the base install of the wheel and nothing else."""
    environment = tmp_path_factory.mktemp("base") / "env"
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True, timeout=300)
    return programs


@pytest.mark.deep
def test_the_client_runs_in_an_empty_environment(programs: Path, tmp_path: Path) -> None:
    """The base install brings the client and nothing heavy."""
    python = str(programs / "python")
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
        [str(programs / "unitvec"), "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert "embed" in help_text


@pytest.mark.deep
@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        ("unitvec-serve --model m", "onnxruntime", "server"),
        ("unitvec-serve --help", "onnxruntime", "server"),
        ("unitvec-export", "onnx", "export"),
        ("unitvec-bulk --help", "pyarrow", "bulk"),
        ("unitvec-loadtest --output-html a.html", "matplotlib", "loadtest"),
        ("unitvec embed a -o a.parquet", "pyarrow", "parquet"),
    ],
)
def test_the_base_install_names_what_is_missing_and_how_to_get_it(
    wheel: Path, programs: Path, tmp_path: Path, arguments: str, package: str, extra: str
) -> None:
    """One line, whose command pip takes as it is printed."""
    program, *flags = arguments.split()
    command = [str(programs / program), *flags]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert package in ended.stderr
    printed = ended.stderr.strip()[ended.stderr.index("pip install") :]
    assert printed == f"pip install 'unitvec[{extra}] @ {wheel.as_uri()}'"
    # Without what the extra depends on, which is large: here it is the form that counts.
    pip = [str(programs / "python"), "-m", "pip", *shlex.split(printed)[1:]]
    subprocess.run([*pip, "--dry-run", "--no-deps", "--no-index"], check=True, timeout=60)


@pytest.mark.deep
def test_the_base_install_embeds_and_loads(programs: Path, tmp_path: Path) -> None:
    """What needs no extra says so of nothing but the server that is not there."""
    for arguments, code in (
        ("unitvec health --target 127.0.0.1:1 --max-attempts 1", 3),
        ("unitvec-loadtest --target 127.0.0.1:1 --timeout-s 0.2", 3),
    ):
        program, *flags = arguments.split()
        command = [str(programs / program), *flags]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == code
        assert "127.0.0.1:1" in ended.stderr


def test_the_installed_version_is_the_package_version() -> None:
    assert metadata.version("unitvec") == __version__
