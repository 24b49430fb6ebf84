"""Artifacts of the tests are built once, whole, and anew when what builds them changes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import artifacts


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where they are kept, for this test."""
    monkeypatch.setattr(artifacts, "KEPT", tmp_path / "kept")
    return tmp_path / "kept"


def write(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_text("whole")


def test_one_of_many_builds() -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        write(folder)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: artifacts.keep("model", build), range(8)))
    assert len(built) == 1
    assert [(folder / "file").read_text() for folder in found] == ["whole"] * 8


def test_a_build_that_fails_leaves_nothing() -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        artifacts.keep("model", fail)
    assert (artifacts.keep("model", write) / "file").exists()


@pytest.mark.parametrize("change", ["edited", "added", "moved"])
def test_other_code_is_another_fingerprint(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "export.py").write_text("1")
    monkeypatch.setattr(artifacts, "REPOSITORY", tmp_path)
    monkeypatch.setattr(artifacts, "CODE", ("code",))
    read = artifacts.fingerprint.__wrapped__
    before = read()
    assert read() == before
    if change == "edited":
        (code / "export.py").write_text("2")
    elif change == "added":
        (code / "more.py").write_text("")
    else:
        (code / "export.py").rename(code / "import.py")
    assert read() != before


def test_all_that_builds_is_named() -> None:
    for part in artifacts.CODE:
        assert (artifacts.REPOSITORY / part).exists()
