"""How an extra is installed, from wherever this installation came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unitvec_protos.installation import explain_missing, install_command


def install_from(site: Path, origin: dict[str, Any] | None) -> None:
    """Makes an installed distribution in a folder of packages, as pip records it."""
    folder = site / "unitvec-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: unitvec\nVersion: 9.9\n")
    if origin is not None:
        (folder / "direct_url.json").write_text(json.dumps(origin))


@pytest.mark.parametrize(
    ("name", "origin", "command"),
    [
        ("index", None, "pip install 'unitvec[server]'"),
        ("wheel", {"archive_info": {}}, "pip install 'unitvec[server] @ {url}'"),
        ("a clone", {"dir_info": {}}, "pip install 'unitvec[server] @ {url}'"),
        ("edited", {"dir_info": {"editable": True}}, "pip install --editable '{path}[server]'"),
        (
            "repository",
            {"url": "https://host/u.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "pip install 'unitvec[server] @ git+https://host/u.git@c0ffee'",
        ),
        (
            "gone",
            {"url": "file:///no/such.whl", "archive_info": {}},
            "pip install 'unitvec[server] @ file:///PATH/TO/CLONE-OR-WHEEL'",
        ),
    ],
)
def test_an_extra_comes_from_where_the_rest_came(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    origin: dict[str, Any] | None,
    command: str,
) -> None:
    source = tmp_path / name
    source.mkdir()
    install_from(tmp_path, origin and {"url": source.as_uri(), **origin})
    monkeypatch.syspath_prepend(tmp_path)
    expected = command.format(url=source.as_uri(), path=source)
    assert install_command("server") == expected
    said = explain_missing("unitvec-serve", "tokenizers", extra="server")
    assert said == f"unitvec-serve needs tokenizers, which is not installed: {expected}\n"


def test_no_hint_is_written_by_hand() -> None:
    """One that is would name an index that does not have unitvec."""
    root = Path(__file__).parents[1]
    folders = ("bulk", "client", "export", "loadtest", "protos", "server")
    sources = [path for folder in folders for path in (root / folder).rglob("*.py")]
    assert len(sources) > 100
    assert not [path for path in sources if "pip install 'unitvec" in path.read_text("utf-8")]
