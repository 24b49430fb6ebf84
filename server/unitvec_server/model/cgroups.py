"""The control groups of this process, which bound its CPUs and memory in containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
"""Where cgroups are mounted."""

OWN = Path("/proc/self/cgroup")
"""The cgroups of this process, as in proc(5)."""


def cgroup_folders(controller: str, root: Path = ROOT, own: Path = OWN) -> Iterator[Path]:
    """Folders of the process's cgroup and all above it, of cgroup v2 and v1.

    Args:
        controller: Name of a v1 controller, such as ``cpu``.
        root: Where cgroups are mounted.
        own: The cgroups of this process.
    """
    for line in read_text(own).splitlines() or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # The mount point of v1 may name its controllers in another order; a link has one name.
        for hierarchy in (root / controllers, root / controller) if controllers else (root,):
            group = hierarchy / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(hierarchy):
                    yield folder


def read_text(path: Path) -> str:
    """Content of a file of the system; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
