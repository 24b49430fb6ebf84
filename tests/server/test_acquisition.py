"""Which models are exported on first use, where to, and what a failure says."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.engine import acquisition
from unitvec_server.engine.acquisition import acquire
from unitvec_server.errors import ArtifactError
from unitvec_server.flags import parse_config
from unitvec_server.model.cache import VARIABLE, default_cache, entry_name

# Stands for the command that export puts beside the interpreter: it writes down what it was asked.
_EXPORTER = """
import sys
from pathlib import Path

print("[1/1] exporting ... 0.0 s")
if "broken" in sys.argv[1]:
    sys.exit("unitvec-export: error: it is broken")
out = Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
(out / "arguments").open("x").write(" ".join(sys.argv[1:]))
(out / "manifest.json").write_text("{}")
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an exporter that takes no time."""
    program = tmp_path / "exporter.py"
    program.write_text(_EXPORTER)
    monkeypatch.setattr(acquisition, "_COMMAND", (sys.executable, str(program)))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def acquired(*models: str, precision: str = "auto") -> tuple[ModelSpec, ...]:
    """The models of a command line, ready to be served."""
    config = parse_config([f"--precision={precision}", *(f"--model={m}" for m in models)], {})
    return asyncio.run(acquire(config)).model


def arguments(spec: ModelSpec) -> list[str]:
    """What its exporter was asked."""
    return (spec.folder / "arguments").read_text().split()


def test_artifacts_and_misspelt_paths_stay_as_they_are(tmp_path: Path, cache: Path) -> None:
    artifact, empty = tmp_path / "artifacts" / "mine", tmp_path / "empty"
    artifact.mkdir(parents=True)
    empty.mkdir()
    (artifact / "manifest.json").write_text("{}")
    models = (str(artifact), str(empty), "artifacts/nime", "/no/such", "nowhere")
    assert [spec.folder for spec in acquired(*models)] == [Path(model) for model in models]
    assert not cache.exists()


@pytest.mark.parametrize(
    ("model", "name", "asked"),
    [
        ("someone/tiny", "tiny", ["someone/tiny"]),
        ("mine=someone/tiny@v1.2", "mine", ["someone/tiny", "--revision", "v1.2"]),
        ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2", ["all-MiniLM-L6-v2", "--without-torch"]),
    ],
)
def test_hub_ids_and_packaged_names(cache: Path, model: str, name: str, asked: list[str]) -> None:
    (spec,) = acquired(model)
    assert spec.name == name
    assert spec.folder.parent == cache
    assert arguments(spec) == [asked[0], "--out", str(spec.folder), *asked[1:]]
    assert acquired(model) == (spec,)  # the exporter would not write twice


def test_a_precision_that_no_export_writes_unasked() -> None:
    (usual,), (fast,) = acquired("someone/tiny"), acquired("someone/tiny", precision="int8")
    assert usual.folder != fast.folder
    assert arguments(fast)[-2:] == ["--precision", "int8"]
    assert acquired("someone/tiny", precision="int16") == (usual,)


def test_a_local_model_that_changes(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "modules.json").write_text("[]")
    (first,) = acquired("model")
    assert acquired(str(folder)) == (first,)
    (folder / "modules.json").write_text("[ ]")
    (second,) = acquired("model")
    assert first.folder != second.folder
    assert first.name == second.name == "model"


def test_two_servers_at_once() -> None:
    """One exports, the other finds it: the exporter would not write twice."""
    config = ServerConfig(model=(ModelSpec("tiny", Path("someone/tiny")),))

    async def both() -> tuple[ServerConfig, ServerConfig]:
        first, second = await asyncio.gather(acquire(config), acquire(config))
        return first, second

    first, second = asyncio.run(both())
    assert first == second


def test_a_failure_says_why() -> None:
    with pytest.raises(ArtifactError) as caught:
        acquired("someone/broken")
    assert str(caught.value) == (
        "someone/broken is no exported model, and cannot be exported: it is broken"
    )


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(ArtifactError, match=r"^cannot write to .* with UNITVEC_MODEL_CACHE$"):
        acquired("someone/tiny")


def test_where_the_cache_is() -> None:
    home = Path.home() / ".cache" / "unitvec"
    assert default_cache({}) == default_cache({"XDG_CACHE_HOME": "relative"}) == home
    assert default_cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/unitvec")
    assert default_cache({"XDG_CACHE_HOME": "/c", VARIABLE: "/m"}) == Path("/m")
    assert entry_name("a/b", "", "") != entry_name("a/b", "v1", "")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}[0])  # as of a user that nobody has made
    with pytest.raises(ArtifactError, match=f"name one with {VARIABLE}$"):
        default_cache({})
