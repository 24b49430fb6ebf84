"""Fingerprints: what moves vectors changes them, what does not leaves them alone."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from unitvec_server.model.artifact import Artifact
from unitvec_server.model.cpus import cpu_features, lacks_int8
from unitvec_server.model.fingerprints import bits_of, checked_space, space_of
from unitvec_server.model.identity import Identity, canonical, tokenizer_digest
from unitvec_server.model.kernels import Kernels
from unitvec_server.model.manifest import File, Graph, Manifest, Parity

IDENTITY = Identity("", "w", {"model_type": "bert"}, "t", "5e", [{"type": "Normalize"}])
MANIFEST = Manifest(
    model_id="someone/model",
    revision="r",
    dim=4,
    max_seq_length=8,
    pooling="mean",
    normalized=True,
    pad_token_id=0,
    prompts={"query": "query: "},
    default_prompt_name=None,
    tokenizer=File("tokenizer.json", "5e", 2),
    graphs={
        name: Graph(File(f"model.{name}.onnx", name, 3), Parity(0, 0.0, 0.0, 0.0))
        for name in ("fp32", "int16")
    },
    created_by="test",
    identity=IDENTITY,
)
RUNTIME = {"operator": "unitvec", "arithmetic": 1}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class TestCanonical:
    """One form for one value."""

    @given(st.dictionaries(st.text(), JSON))
    def test_order_of_keys_does_not_count(self, value: dict[str, Any]) -> None:
        assert canonical(dict(reversed(value.items()))) == canonical(value)

    @given(JSON)
    def test_is_json_without_blanks(self, value: Any) -> None:
        text = canonical(value).decode()
        assert json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False) == text

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_numbers(self, number: float) -> None:
        if number.is_integer() and abs(number) < 2**53:
            assert canonical(number) == canonical(int(number)) == str(int(number)).encode()
        else:
            assert struct.unpack(">d", bytes.fromhex(json.loads(canonical(number))))[0] == number

    def test_keys_are_sorted_as_utf8_is(self) -> None:
        keys = ["\U0001f600", "\uff5e", "é", "a", "Z"]
        found = list(json.loads(canonical(dict.fromkeys(keys))))
        assert found == sorted(keys, key=str.encode)

    def test_is_what_it_was(self) -> None:
        """A change here is a change of every fingerprint that anyone has stored."""
        value = {"b": [1, 1.0, 0.1, -0.0], "a": {"ё": None, "\n": True, "\x1f": '"\\/'}}
        expected = r'{"a":{"\n":true,"\u001f":"\"\\/","ё":null},"b":[1,1,"3fb999999999999a",0]}'
        assert canonical(value).decode() == expected


SPACE_CHANGES: dict[str, dict[str, Any]] = {
    "length": {"max_seq_length": 9},
    "special tokens": {"split_special_tokens": True},
    "prompt": {"prompts": {"query": "Query: "}},
    "name of a prompt": {"prompts": {"q": "query: "}},
    "another prompt": {"prompts": {"query": "query: ", "passage": "passage: "}},
    "default prompt": {"default_prompt_name": "query"},
    "side": {"truncation_side": "left"},
    "weights": {"identity": dataclasses.replace(IDENTITY, weights="v")},
    "tokenizer": {"identity": dataclasses.replace(IDENTITY, tokenizer="s")},
    "architecture": {"identity": dataclasses.replace(IDENTITY, architecture={"model_type": "t5"})},
    "pipeline": {"identity": dataclasses.replace(IDENTITY, pipeline=[])},
}
NO_SPACE_CHANGES: dict[str, dict[str, Any]] = {
    "name": {"model_id": "another", "revision": "s", "created_by": "later"},
    "graphs": {"graphs": {"int16": MANIFEST.graphs["int16"]}},
    "empty prompt": {"prompts": {"query": "query: ", "document": ""}},
    "file of the tokenizer": {"tokenizer": File("tokenizer.json", "6f", 3)},
    "how it is compared": {"similarity_fn_name": "dot"},
    "what export wrote": {"identity": dataclasses.replace(IDENTITY, space="s1-0", bits={"a": "b"})},
}


class TestSpace:
    """Which vectors may be compared."""

    @pytest.mark.parametrize("change", SPACE_CHANGES.values(), ids=SPACE_CHANGES)
    def test_what_moves_vectors_changes_it(self, change: dict[str, Any]) -> None:
        assert space_of(dataclasses.replace(MANIFEST, **change)) != space_of(MANIFEST)

    @pytest.mark.parametrize("change", NO_SPACE_CHANGES.values(), ids=NO_SPACE_CHANGES)
    def test_anything_else_does_not(self, change: dict[str, Any]) -> None:
        assert space_of(dataclasses.replace(MANIFEST, **change)) == space_of(MANIFEST)

    def test_is_short_and_fits_everywhere(self) -> None:
        assert space_of(MANIFEST) == "s1-3ae212bb4c422b1960e6"

    def test_is_unknown_where_the_artifact_is_too_old(self) -> None:
        assert space_of(dataclasses.replace(MANIFEST, identity=None)) == ""

    def test_a_tokenizer_that_was_exchanged_counts(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text(bert().to_str(), encoding="utf-8")
        exchanged = dataclasses.replace(MANIFEST, tokenizer=File("tokenizer.json", "6f", 2))
        digest = tokenizer_digest(bert().to_str())
        identity = dataclasses.replace(IDENTITY, tokenizer=digest)
        expected = space_of(dataclasses.replace(MANIFEST, identity=identity))
        assert checked_space(Artifact(tmp_path, exchanged)) == expected
        assert checked_space(Artifact(tmp_path, MANIFEST)) == space_of(MANIFEST)


class TestBits:
    """Which vectors are computed alike."""

    @pytest.mark.parametrize(
        "change",
        [
            {"graphs": {**MANIFEST.graphs, "int16": MANIFEST.graphs["fp32"]}},
            {"tokenizer": File("tokenizer.json", "6f", 2)},
            {"max_seq_length": 9},
            {"prompts": {"query": "Query: "}},
            {"pad_token_id": 1},
            {"normalized": False},
        ],
    )
    def test_what_moves_bits_changes_it(self, change: dict[str, Any]) -> None:
        changed = dataclasses.replace(MANIFEST, **change)
        assert bits_of(changed, "int16", RUNTIME) != bits_of(MANIFEST, "int16", RUNTIME)

    def test_graph_and_runtime_count(self) -> None:
        later = {**RUNTIME, "arithmetic": 2}
        found = {
            bits_of(MANIFEST, "int16", RUNTIME),
            bits_of(MANIFEST, "fp32", RUNTIME),
            bits_of(MANIFEST, "int16", later),
        }
        assert len(found) == 3

    def test_the_instruction_set_counts_for_bf16_on_amx_alone(self) -> None:
        amx, avx2 = (Kernels(Path("k.so"), name, "") for name in ("amx", "avx2"))
        assert avx2.runtime("bf16") == avx2.runtime("int16") == amx.runtime("int16") == RUNTIME
        assert amx.runtime("bf16") == {**RUNTIME, "tiles": "amx"}

    def test_is_known_of_every_artifact(self) -> None:
        old = dataclasses.replace(MANIFEST, identity=None)
        assert bits_of(old, "int16", RUNTIME) == bits_of(MANIFEST, "int16", RUNTIME)
        assert bits_of(MANIFEST, "int16", RUNTIME) == "b1-1d7e2bfada4a2ec25454"


def bert(**post: Any) -> tokenizers.Tokenizer:
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "cat": 3, "mat": 4}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def edited(tokenizer: tokenizers.Tokenizer, **changes: Any) -> str:
    return json.dumps({**json.loads(tokenizer.to_str()), **changes})


class TestTokenizer:
    """A tokenizer by what it does, however a release of its library writes it."""

    def test_padding_and_truncation_do_not_count(self) -> None:
        padded = bert()
        padded.enable_padding(length=5)
        padded.enable_truncation(3)
        assert tokenizer_digest(padded.to_str()) == tokenizer_digest(bert().to_str())

    def test_decoder_and_order_do_not_count(self) -> None:
        content = json.loads(bert().to_str())
        text = json.dumps({**dict(reversed(content.items())), "decoder": {"type": "Fuse"}})
        assert tokenizer_digest(text) == tokenizer_digest(bert().to_str())

    def test_template_of_one_text_counts_and_not_its_spelling(self) -> None:
        spelled = bert()
        spelled.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(
                    single="[CLS] $A [SEP]",
                    pair="[CLS] $A [SEP] $B:1",
                    special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
                ),
            ]
        )
        assert tokenizer_digest(spelled.to_str()) == tokenizer_digest(bert().to_str())
        other = bert()
        other.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 2))
        assert tokenizer_digest(other.to_str()) != tokenizer_digest(bert().to_str())
        assert tokenizer_digest(edited(bert(), post_processor=None)) != tokenizer_digest(
            bert().to_str()
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"normalizer": {"type": "Lowercase"}},
            {"pre_tokenizer": {"type": "WhitespaceSplit"}},
            {"added_tokens": [{"id": 3, "content": "cat", "special": True}]},
        ],
    )
    def test_what_takes_part_counts(self, changes: dict[str, Any]) -> None:
        assert tokenizer_digest(edited(bert(), **changes)) != tokenizer_digest(bert().to_str())

    def test_vocabulary_counts(self) -> None:
        model = json.loads(bert().to_str())["model"]
        model["vocab"] |= {"cat": 4, "mat": 3}
        assert tokenizer_digest(edited(bert(), model=model)) != tokenizer_digest(bert().to_str())

    def test_merges_as_strings_or_pairs(self) -> None:
        bpe = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
        model = json.loads(bpe.to_str())["model"]
        older = {**model, "merges": ["a b"]}
        for name in ("byte_fallback", "ignore_merges"):
            older.pop(name)
        assert model["merges"] == [["a", "b"]]
        assert tokenizer_digest(edited(bpe, model=older)) == tokenizer_digest(bpe.to_str())
        on = {**model, "byte_fallback": True}
        assert tokenizer_digest(edited(bpe, model=on)) != tokenizer_digest(bpe.to_str())

    def test_zero_is_no_option_that_is_off(self) -> None:
        pieces = [("<unk>", 0.0), ("a", -0.5)]
        unigram = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
        model = json.loads(unigram.to_str())["model"]
        without = {key: value for key, value in model.items() if key != "unk_id"}
        assert tokenizer_digest(edited(unigram, model=without)) != tokenizer_digest(
            unigram.to_str()
        )


class TestCpu:
    """Kinds of CPUs, by which plain graphs differ in their last bits."""

    def cpuinfo(self, tmp_path: Path, line: str) -> Path:
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nmodel name\t: X\n{line}\n\n", encoding="ascii")
        return path

    def test_features_that_count(self, tmp_path: Path) -> None:
        path = self.cpuinfo(tmp_path, "flags\t\t: fpu fma avx2 hypervisor avx512_vnni")
        assert cpu_features(path) == ("avx2", "avx512_vnni", "fma")
        path = self.cpuinfo(tmp_path, "Features\t: fp asimd evtstrm asimddp")
        assert cpu_features(path) == ("asimd", "asimddp")
        assert cpu_features(tmp_path / "none") == ()

    def test_int8_loses_precision_on_x86_without_vnni_alone(self) -> None:
        assert lacks_int8(("avx2", "fma"), "x86_64")
        assert not lacks_int8(("avx2", "avx_vnni"), "x86_64")
        assert not lacks_int8(("avx512_vnni",), "AMD64")
        assert not lacks_int8(("asimd",), "aarch64")
        assert not lacks_int8((), "x86_64")
