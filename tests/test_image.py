"""The image as `make image` builds it: small, the same each time, and a server as process 1."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving import Server, ServerProcess
from unitvec_client import Client
from unitvec_export.prove.verification import load_sample

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "deploy" / "image"
TOOLS = ("mmdebstrap", "umoci", "c++", "bwrap")
MOST_BYTES = 150_000_000
EPOCH_S = 1_700_000_000
MODEL = "models/all-MiniLM-L6-v2"
FOREIGN = re.compile(r"bin/(pip|gcc|c\+\+|ld|apt|dpkg|sh)$|/(torch|transformers|sympy)$")

pytestmark = [
    pytest.mark.deep,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can lay out a root file system"),
    *(
        pytest.mark.skipif(shutil.which(tool) is None, reason=f"there is no {tool}")
        for tool in TOOLS
    ),
]


@dataclasses.dataclass(frozen=True)
class Image:
    """An image as it was built, and unpacked beside."""

    digest: str
    folder: Path

    def blob(self, digest: str) -> Path:
        return self.folder / "oci" / "blobs" / digest.replace(":", "/")

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.blob(self.digest).read_text("utf-8"))
        return found

    @property
    def config(self) -> dict[str, Any]:
        text = self.blob(self.manifest["config"]["digest"]).read_text("utf-8")
        found: dict[str, Any] = json.loads(text)["config"]
        return found

    def members(self) -> Iterator[tarfile.TarInfo]:
        for layer in self.manifest["layers"]:
            with tarfile.open(self.blob(layer["digest"])) as archive:
                yield from archive


def build(folder: Path) -> str:
    """Builds it from nothing; its digest."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH_S), "REVISION": "0" * 40}
    for command in (["layers.sh", folder], ["pack.py", folder, folder / "unitvec.oci.tar"]):
        done = subprocess.run(
            [SCRIPTS / command[0], *command[1:]],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Built once, whichever of the processes that run tests comes first."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder, digest = shared / "image", shared / "image.digest"
    with (shared / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not digest.exists():
            found = build(folder)
            layout = f"{folder}/oci:{version()}"
            subprocess.run(["umoci", "unpack", "--image", layout, folder / "bundle"], check=True)
            digest.write_text(found, "utf-8")
    return Image(digest.read_text("utf-8"), folder)


def version() -> str:
    from unitvec_protos import __version__

    return __version__


class FirstProcess(ServerProcess):
    """The image's server as process 1 of a sandbox: not root, without capabilities, read-only."""

    def __init__(self, image: Image, **variables: str) -> None:
        environment = [pair.split("=", 1) for pair in image.config["Env"]]
        setting = [("--setenv", *pair) for pair in [*environment, *variables.items()]]
        super().__init__(
            program=image.config["Entrypoint"],
            wrapper=[
                *("bwrap", "--unshare-all", "--share-net", "--as-pid-1", "--die-with-parent"),
                *("--clearenv", *(part for parts in setting for part in parts)),
                *("--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
                *("--ro-bind", str(image.folder / "bundle" / "rootfs"), "/"),
                *("--dev", "/dev", "--proc", "/proc", "--"),
            ],
        )

    def send(self, number: int) -> None:
        """Signals process 1 itself, from outside."""
        own = self.process.pid
        [first] = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        os.kill(int(first), number)


def test_is_small(image: Image) -> None:
    assert sum(layer["size"] for layer in image.manifest["layers"]) <= MOST_BYTES


def test_is_the_same_each_time(image: Image, tmp_path: Path) -> None:
    again = Image(build(tmp_path / "again"), tmp_path / "again")
    layers = [[layer["digest"] for layer in each.manifest["layers"]] for each in (image, again)]
    assert layers[0] == layers[1]
    assert again.digest == image.digest


def test_holds_what_serves_and_nothing_else(image: Image) -> None:
    names = set()
    for member in image.members():
        names.add(member.name)
        assert (member.uid, member.gid, member.mtime) == (0, 0, EPOCH_S), member.name
        others_write = member.mode & 0o6022 and not member.issym()
        assert not others_write or member.name == "tmp", member.name
    assert not [name for name in names if FOREIGN.search(name)]
    assert {f"{MODEL}/model.int16.onnx", "usr/local/bin/unitvec"} <= names
    assert "var/lib/dpkg/status.d/libc6" in names  # for scanners


def test_is_what_the_dockerfile_says(image: Image) -> None:
    last = (ROOT / "Dockerfile").read_text("utf-8").rpartition("\nFROM scratch")[2]
    last = last.replace("\\\n", "")
    said = {
        word: re.findall(rf"^{word} (.*)$", last, re.MULTILINE)
        for word in re.findall(r"(?m)^[A-Z]+", last)
    }
    config = image.config
    assert said["USER"] == [config["User"]]
    assert {f"{port}/tcp" for port in said["EXPOSE"][0].split()} == set(config["ExposedPorts"])
    assert shlex.split(said["ENV"][0]) == config["Env"]
    assert json.loads(said["ENTRYPOINT"][0]) == config["Entrypoint"]
    labels = dict(pair.split("=", 1) for pair in shlex.split(said["LABEL"][0]))
    made = {**labels, "org.opencontainers.image.revision": "0" * 40}
    made["org.opencontainers.image.version"] = version()
    created = {"org.opencontainers.image.created": "2023-11-14T22:13:20Z"}
    assert made | created == config["Labels"]
    copied = re.findall(r"--from=build /image/layers/(\w+) /", last)
    history = json.loads(image.blob(image.manifest["config"]["digest"]).read_text())["history"]
    assert copied == [entry["created_by"].split()[-1] for entry in history]


def test_serves_as_the_first_process(image: Image) -> None:
    process = FirstProcess(image, UNITVEC_INSECURE="true", UNITVEC_HTTP_PORT="0")
    try:
        server = Server(process)
        texts = load_sample()[:20]
        expected = np.load(image.folder / "bundle" / "rootfs" / MODEL / "vectors.npy")[:20]
        with Client(server.target.replace("0.0.0.0", "127.0.0.1")) as client:
            vectors = client.embed(texts)
        assert (vectors * expected).sum(axis=1).min() > 0.99999
        assert any("int16 on" in str(entry["message"]) for entry in process.logs)
        server.channel.close()
        assert process.stop(signal.SIGTERM) == 0
    finally:
        process.process.kill()


def test_serves_no_strangers_by_default(image: Image) -> None:
    process = FirstProcess(image)
    assert process.wait() == 2
    assert "--tls-cert" in "".join(process.output)
