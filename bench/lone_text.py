"""How much of our Python one text passes: `python -m bench.lone_text [ARTIFACT]`.

A server and a client run in this process. Over a few calls of one text each, one after the other,
it counts the frames of our functions, generators and comprehensions that a call enters, the modules
that they are of, and the hops, which are the changes of module from one frame to the next of the
same thread. None of them depends on the speed of the machine. Python 3.12 and later count fewer
frames, since comprehensions have none of their own there.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from unitvec_client import Client
from unitvec_server.server import main as serve

_PACKAGES = ("unitvec_server", "unitvec_client")
_SERVING = " serving on "
_ARTIFACT = "artifacts/all-MiniLM-L6-v2"
_WARM_UP_CALLS = 5
_CALLS = 10


class Footprint(NamedTuple):
    """The path of one text through a package.

    Attributes:
        frames: Number of frames that a call enters.
        modules: Number of modules that these frames are of.
        hops: Number of changes of module from one frame to the next of the same thread.
        path: Modules and functions in the order in which all calls entered them, by thread.
    """

    frames: int
    modules: int
    hops: int
    path: dict[str, list[tuple[str, str]]]


class FrameCounter:
    """Notes each frame of our packages that is entered while it is on, in threads begun since."""

    def __init__(self) -> None:
        self._is_on = False
        self._frames: dict[FrameType, str] = {}  # keeps them: a freed one could lend its place

    def install(self) -> None:
        """Watches this thread and all that begin later."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def start(self) -> None:
        """Begins anew."""
        self._frames.clear()
        self._is_on = True

    def stop(self) -> None:
        """Notes no more."""
        self._is_on = False

    def footprint(self, package: str) -> Footprint:
        """What was noted of a package."""
        path: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
        for frame, thread in self._frames.items():
            module = frame.f_globals["__name__"]
            if module.startswith(package):
                path[thread].append((module, frame.f_code.co_qualname))
        steps = [[module for module, _ in entered] for entered in path.values()]
        return Footprint(
            round(sum(map(len, steps)) / _CALLS),
            len({module for modules in steps for module in modules}),
            round(sum(a != b for each in steps for a, b in itertools.pairwise(each)) / _CALLS),
            dict(path),
        )

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if self._is_on and event == "call":  # of generators and coroutines, at each resumption too
            module = frame.f_globals.get("__name__", "")
            if module.startswith(_PACKAGES):
                self._frames.setdefault(frame, threading.current_thread().name)


class _Address(logging.Handler):
    """Waits for the line of the server's log that tells where it serves."""

    def __init__(self) -> None:
        super().__init__()
        self.found = threading.Event()
        self.target = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Reads one line."""
        message = record.getMessage()
        if _SERVING in message:
            self.target = message.split(_SERVING)[1].split()[0]
            self.found.set()


def measure(artifact: Path) -> list[Footprint]:
    """The paths of one text through the server and the client. Runs in the main thread.

    Args:
        artifact: Folder of the model.
    """
    counter, address = FrameCounter(), _Address()
    counter.install()
    logging.getLogger("unitvec_server").addHandler(address)

    def call() -> None:
        address.found.wait()
        with Client(address.target) as client:
            for _ in range(_WARM_UP_CALLS):
                client.embed(["a cat on a mat"])
            counter.start()
            for number in range(_CALLS):
                client.embed([f"a dog in the fog number {number}"])
            counter.stop()
        os.kill(os.getpid(), signal.SIGTERM)

    caller = threading.Thread(target=call, name="caller")
    caller.start()
    serve(["--model", str(artifact), "--port", "0", "--max-batch-tokens", "256"])
    caller.join()
    return [counter.footprint(package) for package in _PACKAGES]


def main() -> None:
    """Prints the counts, and with --path each frame."""
    parser = argparse.ArgumentParser(prog="python -m bench.lone_text", description=__doc__)
    parser.add_argument("artifact", nargs="?", default=_ARTIFACT, type=_artifact)
    parser.add_argument("--path", action="store_true", help="print each frame that is entered")
    arguments = parser.parse_args()
    footprints = measure(arguments.artifact)
    for package, footprint in zip(_PACKAGES, footprints, strict=True):
        frames, modules, hops, path = footprint
        print(f"{package}: {frames} frames, {modules} modules, {hops} hops")
        if arguments.path:
            for thread, entered in path.items():
                print(f"  {thread}")
                print(*(f"    {module} {name}" for module, name in entered), sep="\n")


def _artifact(text: str) -> Path:
    if not Path(text, "manifest.json").is_file():
        raise argparse.ArgumentTypeError(f"{text} is not an exported model")
    return Path(text)


if __name__ == "__main__":
    main()
