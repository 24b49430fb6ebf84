"""Model folders: whole, damaged, foreign and from the future."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unitvec_server.errors import ArtifactError
from unitvec_server.model.artifact import (
    MANIFEST_FILE,
    Artifact,
    describe_file,
    load_artifact,
    verify_file,
)
from unitvec_server.model.manifest import File, Graph, Manifest, Parity

PARITY = Parity(texts=3, cosine_mean=0.99999, cosine_min=0.9999, max_abs_diff=1e-6)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A folder with all files, its contents arbitrary bytes."""
    graphs = {}
    for precision in ("fp32", "int8"):
        path = tmp_path / f"model.{precision}.onnx"
        path.write_bytes(precision.encode() * 1000)
        graphs[precision] = Graph(describe_file(path), PARITY)
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    manifest = Manifest(
        model_id="someone/модель",
        revision="",
        dim=4,
        max_seq_length=8,
        pooling="mean",
        normalized=True,
        pad_token_id=0,
        prompts={"query": "query: "},
        default_prompt_name=None,
        tokenizer=describe_file(tokenizer),
        graphs=graphs,
        created_by="test",
    )
    (tmp_path / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return Artifact(tmp_path, manifest)


def refused(folder: Path) -> str:
    """The one line that says why."""
    with pytest.raises(ArtifactError) as caught:
        load_artifact(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


class TestWhole:
    """An artifact as export writes it."""

    def test_round_trip(self, artifact: Artifact) -> None:
        loaded = load_artifact(artifact.folder)
        assert loaded == artifact
        for file in [loaded.manifest.tokenizer, *(g.file for g in loaded.manifest.graphs.values())]:
            verify_file(loaded, file)
        assert loaded.tokenizer_path.read_text() == "{}"
        assert loaded.graph_path("int8").read_bytes() == b"int8" * 1000

    def test_a_graph_that_nothing_runs_any_more(self, artifact: Artifact) -> None:
        """Older artifacts stay whole, and say what to do where their graph was all they had."""
        graphs = {"int8-static": artifact.manifest.graphs["int8"]}
        manifest = dataclasses.replace(artifact.manifest, graphs=graphs)
        (artifact.folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        loaded = load_artifact(artifact.folder)
        assert loaded.manifest == manifest
        with pytest.raises(ArtifactError, match=r"it has: int8-static\); export it with .* int8$"):
            loaded.graph_path("int8")

    def test_precision_that_it_does_not_have(self, artifact: Artifact) -> None:
        with pytest.raises(ArtifactError, match=r"no fp16 graph \(it has: fp32, int8\)"):
            artifact.graph_path("fp16")


Change = Callable[[dict[str, Any]], object]
MANIFESTS: dict[str, tuple[Change, str]] = {
    "foreign format": (lambda m: m.update(format="pickle"), "not a unitvec manifest"),
    "no format": (lambda m: m.pop("format"), "not a unitvec manifest"),
    "future version": (lambda m: m.update(format_version=2), "format_version 2, this server"),
    "no version": (lambda m: m.pop("format_version"), "format_version None"),
    "version as text": (lambda m: m.update(format_version="1"), "format_version '1'"),
    "unknown field": (lambda m: m.update(colour="red"), "colour"),
    "dim of zero": (lambda m: m.update(dim=0), "dim"),
    "dim as text": (lambda m: m.update(dim="4"), "dim has the wrong type"),
    "dim as truth": (lambda m: m.update(dim=True), "dim has the wrong type"),
    "dim as fraction": (lambda m: m.update(dim=4.0), "dim has the wrong type"),
    "dim beyond measure": (lambda m: m.update(dim=10**30), "dim"),
    "length of zero": (lambda m: m.update(max_seq_length=0), "max_seq_length"),
    "length as truth": (lambda m: m.update(max_seq_length=True), "max_seq_length"),
    "length beyond measure": (lambda m: m.update(max_seq_length=10**30), "max_seq_length"),
    "negative padding": (lambda m: m.update(pad_token_id=-1), "pad_token_id"),
    "padding beyond measure": (lambda m: m.update(pad_token_id=10**30), "pad_token_id"),
    "unknown pooling": (lambda m: m.update(pooling="mean+median"), "pooling 'median'"),
    "pooling as list": (lambda m: m.update(pooling=["mean"]), "pooling"),
    "normalized as number": (lambda m: m.update(normalized=1), "normalized"),
    "prompts as list": (lambda m: m.update(prompts=[]), "prompts"),
    "prompt as number": (lambda m: m.update(prompts={"query": 1}), "prompts"),
    "default prompt is none": (lambda m: m.update(default_prompt_name="x"), "'x'"),
    "default prompt as number": (lambda m: m.update(default_prompt_name=1), "default_prompt_name"),
    "no graphs": (lambda m: m.update(graphs={}), "no graphs"),
    "graphs as list": (lambda m: m.update(graphs=[]), "damaged"),
    "unknown precision": (lambda m: m["graphs"].update(int4=m["graphs"]["int8"]), "'int4'"),
    "graph without file": (lambda m: m["graphs"]["fp32"].pop("file"), "file"),
    "graph without parity": (lambda m: m["graphs"]["fp32"].pop("parity"), "parity"),
    "parity as text": (lambda m: parity(m).update(cosine_min="1"), "cosine_min"),
    "parity as truth": (lambda m: parity(m).update(cosine_min=True), "cosine_min"),
    "parity of more": (lambda m: parity(m).update(colour=1), "colour"),
    "texts as text": (lambda m: parity(m).update(texts="3"), "texts"),
    "file as text": (lambda m: m.update(tokenizer="tokenizer.json"), "damaged"),
    "file without digest": (lambda m: m["tokenizer"].pop("sha256"), "sha256"),
    "digest as number": (lambda m: m["tokenizer"].update(sha256=5), "sha256"),
    "size as text": (lambda m: m["tokenizer"].update(size_bytes="2"), "size_bytes"),
    "name as number": (lambda m: m["tokenizer"].update(name=5), "name"),
}
MANIFESTS |= {
    f"no {name}": (lambda m, name=name: m.pop(name), name)  # type: ignore[misc]
    for name in ("model_id", "dim", "prompts", "tokenizer", "graphs", "created_by")
}
MANIFESTS |= {
    f"file name {name!r}": (lambda m, name=name: m["tokenizer"].update(name=name), "file name")  # type: ignore[misc]
    for name in ("", ".", "..", "/etc/passwd", "../x", "a/b", "a/", "./a", "a\0b", "a\\b", "..\\b")
}


def parity(manifest: dict[str, Any]) -> dict[str, Any]:
    """Where the quality of fp32 stands."""
    measured: dict[str, Any] = manifest["graphs"]["fp32"]["parity"]
    return measured


class TestManifest:
    """Manifests that cannot be served."""

    @pytest.mark.parametrize("name", MANIFESTS)
    def test_one_thing_is_wrong(self, artifact: Artifact, name: str) -> None:
        change, said = MANIFESTS[name]
        path = artifact.folder / MANIFEST_FILE
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content))
        assert said in refused(artifact.folder)

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"null", b"3", b'"unitvec-artifact"', b"\xff\xfe", b"[" * 100_000],
    )
    def test_not_a_manifest_at_all(self, artifact: Artifact, content: bytes) -> None:
        (artifact.folder / MANIFEST_FILE).write_bytes(content)
        refused(artifact.folder)

    def test_truncated_anywhere(self, artifact: Artifact) -> None:
        path = artifact.folder / MANIFEST_FILE
        content = path.read_bytes().rstrip()
        for size in range(0, len(content), 37):
            path.write_bytes(content[:size])
            refused(artifact.folder)

    def test_no_manifest(self, tmp_path: Path) -> None:
        assert "unitvec-export" in refused(tmp_path)
        assert "unitvec-export" in refused(tmp_path / "nowhere")

    def test_folder_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        refused(tmp_path / "file")

    def test_manifest_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / MANIFEST_FILE).mkdir()
        refused(tmp_path)


class TestFiles:
    """Files that are not what the manifest says."""

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (lambda path: path.unlink(), "cannot be read"),
            (lambda path: (path.unlink(), path.mkdir()), "bytes|cannot be read"),
            (lambda path: path.write_bytes(path.read_bytes()[:-1]), "3999 bytes.*says 4000"),
            (lambda path: path.write_bytes(path.read_bytes() + b"x"), "4001 bytes"),
            (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "is damaged"),
            (lambda path: path.write_bytes(b"int8" * 1000), "is damaged"),
        ],
    )
    def test_refused(self, artifact: Artifact, spoil: Callable[[Path], object], said: str) -> None:
        spoil(artifact.graph_path("fp32"))
        with pytest.raises(ArtifactError, match=said) as caught:
            verify_file(artifact, artifact.manifest.graphs["fp32"].file)
        assert "model.fp32.onnx" in str(caught.value)

    def test_link_to_nowhere(self, artifact: Artifact) -> None:
        path = artifact.graph_path("fp32")
        path.unlink()
        path.symlink_to("nowhere")
        with pytest.raises(ArtifactError, match="cannot be read"):
            verify_file(artifact, artifact.manifest.graphs["fp32"].file)

    def test_description_is_of_the_content(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"abc")
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert describe_file(path) == File("a", digest, 3)
        assert dataclasses.asdict(describe_file(path))["size_bytes"] == 3
