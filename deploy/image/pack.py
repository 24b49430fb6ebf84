#!/usr/bin/env python3
"""Packs what layers.sh has made as an OCI image in one file, and prints its digest.

    deploy/image/pack.py FOLDER FILE

The Dockerfile says the same to an engine. Layers are packed here, since umoci 0.4 packs the model a
tenth larger. SOURCE_DATE_EPOCH dates everything, REVISION is the commit; both default to git's.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LAYERS = ("base", "dependencies", "model", "unitvec")
LABEL = "org.opencontainers.image"
MEDIA = "application/vnd.oci.image"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CONFIG = {
    "User": "65534:65534",
    "ExposedPorts": {"50051/tcp": {}, "8080/tcp": {}},
    "Env": [
        "PATH=/usr/local/bin:/usr/bin",
        "UNITVEC_MODEL=/models/all-MiniLM-L6-v2",
        "UNITVEC_HOST=0.0.0.0",
    ],
    "Entrypoint": ["unitvec-serve"],
}
DESCRIBE = ("describe", "--always", "--abbrev=40", "--match=", "--dirty")
LEVEL = 6
"""Of gzip. 9 takes twice as long for half a percent."""


def main(folder: Path, file: Path) -> str:
    """Packs the image; returns its digest."""
    epoch_s = int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))
    blobs = folder / "oci" / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    sources = [folder / "layers" / name for name in LAYERS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        packed = list(pool.map(lambda source: pack(source, blobs, epoch_s), sources))
    config = put(blobs, "config.v1+json", configure([diff for _, diff in packed], epoch_s))
    manifest = put(
        blobs,
        "manifest.v1+json",
        {"schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json"}
        | {"config": config, "layers": [layer for layer, _ in packed]},
    )
    named = manifest | {"annotations": {f"{LABEL}.ref.name": version()}}
    index = {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": [named]}
    (folder / "oci" / "index.json").write_text(json.dumps(index), "utf-8")
    (folder / "oci" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', "utf-8")
    with tarfile.open(file, "w") as archive:
        add_all(archive, folder / "oci", epoch_s)
    return str(manifest["digest"])


def pack(source: Path, blobs: Path, epoch_s: int) -> tuple[dict[str, Any], str]:
    """Packs a folder as a layer; returns what the manifest and the configuration say of it."""
    unfinished = blobs / f".{source.name}"
    with unfinished.open("wb") as raw, gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as packed:
        content = Hashed(packed)
        with tarfile.open(fileobj=content, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            add_all(archive, source, epoch_s)
    return keep(unfinished, "layer.v1.tar+gzip"), content.digest


class Hashed:
    """A file that is hashed while it is written."""

    def __init__(self, file: Any) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Writes on."""
        self._hash.update(data)
        return int(self._file.write(data))

    @property
    def digest(self) -> str:
        """Of all that was written."""
        return f"sha256:{self._hash.hexdigest()}"


def add_all(archive: tarfile.TarFile, folder: Path, epoch_s: int) -> None:
    """Adds what a folder holds, in the order of names, with nothing of this machine."""
    for path in sorted(folder.rglob("*")):
        member = archive.gettarinfo(path, str(path.relative_to(folder)))
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = epoch_s
        if member.isreg():
            with path.open("rb") as file:
                archive.addfile(member, file)
        else:
            archive.addfile(member)


def configure(diffs: list[str], epoch_s: int) -> dict[str, Any]:
    """The image's configuration."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch_s))
    labels = {
        "title": "unitvec",
        "description": "Text embeddings over gRPC and HTTP, with all-MiniLM-L6-v2",
        "licenses": "Apache-2.0",
        "version": version(),
        "revision": os.environ.get("REVISION") or git(*DESCRIBE),
        "created": created,
    }
    return {
        "created": created,
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": CONFIG | {"Labels": {f"{LABEL}.{name}": text for name, text in labels.items()}},
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": [
            {"created": created, "created_by": f"deploy/image/layers.sh: {name}"} for name in LAYERS
        ],
    }


def put(blobs: Path, kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """Stores JSON; returns its descriptor."""
    unfinished = blobs / f".{kind}"
    unfinished.write_text(json.dumps(content, sort_keys=True), "utf-8")
    return keep(unfinished, kind)


def keep(unfinished: Path, kind: str) -> dict[str, Any]:
    """Names a file by its hash; returns its descriptor."""
    with unfinished.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = unfinished.stat().st_size
    unfinished.rename(unfinished.with_name(digest))
    return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": size}


def version() -> str:
    """Of unitvec."""
    text = (ROOT / "protos" / "unitvec_protos" / "__init__.py").read_text("utf-8")
    return str(re.findall(r'^__version__ = "(.*)"', text, re.MULTILINE)[0])


def git(*arguments: str) -> str:
    """What git says of this clone."""
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return done.stdout.strip()


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
