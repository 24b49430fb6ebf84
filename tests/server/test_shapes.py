"""The closed set of shapes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unitvec_server.model.shapes import all_shapes, padded_shape

sizes = st.integers(1, 10_000)


@given(count=sizes, longest=st.integers(0, 10_000))
def test_holds_the_batch_with_bounded_padding(count: int, longest: int) -> None:
    rows, length = padded_shape(count, longest)
    assert count <= rows < count * 1.25 + 1e-9 or rows == count
    assert longest <= length <= max(longest, 1) * 1.125 + 4


@given(count=sizes, longest=sizes)
def test_padding_a_padded_shape_changes_nothing(count: int, longest: int) -> None:
    shape = padded_shape(count, longest)
    assert padded_shape(*shape) == shape


@given(st.data(), st.integers(1, 300), st.integers(1, 600))
def test_every_batch_within_the_bounds_is_covered(
    data: st.DataObject, max_seq_length: int, max_batch_tokens: int
) -> None:
    shapes = all_shapes(max_seq_length=max_seq_length, max_batch_tokens=max_batch_tokens)
    longest = data.draw(st.integers(1, max_seq_length))
    count = data.draw(st.integers(1, max(1, max_batch_tokens // longest)))
    assert padded_shape(count, longest) in shapes
    assert len(shapes) == len(set(shapes))


def test_how_many_there_are() -> None:
    """Each costs time at start: a change of the rule shows here."""
    assert len(all_shapes(max_seq_length=256, max_batch_tokens=256)) == 182
    assert len(all_shapes(max_seq_length=256, max_batch_tokens=512)) == 285
    assert len(all_shapes(max_seq_length=8192, max_batch_tokens=256)) < 300
