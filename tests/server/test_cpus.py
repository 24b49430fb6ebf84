"""Usable CPUs in made-up cgroup trees."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from unitvec_server.model.cpus import usable_cpus, waited_s

CGROUPS = {
    "v2, no limit": ("0::/", {"cpu.max": "max 100000"}, 8),
    "v2, whole": ("0::/", {"cpu.max": "200000 100000"}, 2),
    "v2, a part rounds up": ("0::/", {"cpu.max": "150000 100000"}, 2),
    "v2, less than one": ("0::/", {"cpu.max": "10000 100000"}, 1),
    "v2, more than there are": ("0::/", {"cpu.max": "6400000 100000"}, 8),
    "v2, own group": ("0::/a/b", {"a/b/cpu.max": "300000 100000"}, 3),
    "v2, tightest is above": (
        "0::/a/b",
        {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "cpu.max": "max 100000"},
        2,
    ),
    "v2, tightest is its own": (
        "0::/a/b",
        {"a/b/cpu.max": "100000 100000", "a/cpu.max": "400000 100000"},
        1,
    ),
    "v2, a sibling's limit": ("0::/a", {"b/cpu.max": "100000 100000"}, 8),
    "v2, path of the host seen in a container": (
        "0::/system.slice/docker-1.scope",
        {"cpu.max": "200000 100000"},
        2,
    ),
    "v2, above the namespace": ("0::/../other", {"cpu.max": "200000 100000"}, 2),
    "v2, nonsense": ("0::/", {"cpu.max": "lots"}, 8),
    "v2, no period": ("0::/", {"cpu.max": "100000"}, 8),
    "v2, period of zero": ("0::/", {"cpu.max": "100000 0"}, 8),
    "v2, empty": ("0::/", {"cpu.max": ""}, 8),
    "v1": (
        "5:memory:/m\n4:cpu,cpuacct:/a\n1:name=systemd:/s",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
        3,
    ),
    "v1, no limit": (
        "4:cpu,cpuacct:/",
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        8,
    ),
    "v1, mounted in another order": (
        "4:cpuacct,cpu:/a",
        {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"},
        2,
    ),
    "v1, path of the host seen in a container": (
        "4:cpu:/docker/1",
        {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
        2,
    ),
    "v1, cpuset is not cpu": (
        "4:cpuset:/a",
        {"cpuset/a/cpu.cfs_quota_us": "100000", "cpuset/a/cpu.cfs_period_us": "100000"},
        8,
    ),
    "v1 and v2": (
        "4:cpu:/a\n0::/a",
        {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"},
        2,
    ),
    "no cgroups": (None, {}, 8),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_quota(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tightest quota counts, of the group and all above it."""
    own, files, cpus = CGROUPS[name]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cpus(*write(tmp_path, own, files)) == cpus


def test_affinity_is_tighter_than_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both bind."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5}, raising=False)
    assert usable_cpus(*write(tmp_path, "0::/", {"cpu.max": "400000 100000"})) == 2


def test_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every system tells it."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(*write(tmp_path, None, {})) == 1


def test_this_machine() -> None:
    """Whatever it is, the answer is usable."""
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


def write(folder: Path, own: str | None, files: Mapping[str, str]) -> tuple[Path, Path]:
    """A cgroup tree and a /proc/self/cgroup."""
    root = folder / "cgroup"
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    if own is not None:
        (folder / "own").write_text(own + "\n")
    return root, folder / "own"


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="this system does not tell who waits"
)
def test_a_thread_beside_a_busy_one_waits() -> None:
    cpu = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, {{{cpu}}}); print(flush=True)\nwhile True: pass"
    waited: list[float] = []

    def work() -> None:
        os.sched_setaffinity(0, {cpu})  # this thread's alone
        thread_id = threading.get_native_id()
        before_s = waited_s(thread_id)
        while waited_s(thread_id) < before_s + 0.05:
            pass
        waited.append(waited_s(thread_id) - before_s)

    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        other.kill()
    assert waited[0] >= 0.05


def test_nothing_is_known_of_a_thread_that_is_not_there() -> None:
    assert waited_s(0) == 0.0
