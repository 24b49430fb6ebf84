"""How many texts go into one request: as many as fit under every bound of the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from unitvec_client.errors import ErrorFacts, MessageTooLargeError
from unitvec_client.results import ModelInfo, ServerLimits

CHUNK_TEXTS = 256
"""Texts of one request, at most: enough for full batches, few enough to keep several in flight."""

# This is for field tags, length prefixes and options. A text's own share is at most 6 bytes.
_MESSAGE_OVERHEAD_BYTES = 4096
_ITEM_OVERHEAD_BYTES = 16
# One request may fill this part of the server's queue. With 4 requests in flight, a caller who is
# alone on a server is then never shed because of its own requests.
_QUEUE_SHARES = 8
_SPECIAL_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Budget:
    """What one request may hold.

    Attributes:
        items: Highest number of texts or vectors.
        request_bytes: Highest number of bytes.
        reply_items: Highest number of items whose answers fit into one reply.
        tokens: Highest number of tokens, each text counted by its upper bound.
        item_tokens: Highest number of tokens of one text.
    """

    items: int
    request_bytes: int
    reply_items: int
    tokens: int
    item_tokens: int

    def with_items(self, items: int) -> Budget:
        """Return the same budget for at most this many items."""
        return replace(self, items=max(1, min(self.items, items)))

    def check_size(self, item_bytes: int, name: str) -> None:
        """Check that an item can be sent at all.

        Args:
            item_bytes: Its size.
            name: What the caller calls it, such as ``texts[3]``.

        Raises:
            MessageTooLargeError: If it is larger than a whole message.
        """
        if _padded(item_bytes) > self.request_bytes:
            raise MessageTooLargeError(
                f"{name} has {item_bytes:,} bytes, and one message holds {self.request_bytes:,}; "
                "shorten it",
                ErrorFacts(reason="TEXT_TOO_LARGE", field=name),
            )

    def check_sizes(self, sizes_bytes: Sequence[int], field: str) -> None:
        """Check that each item of a field can be sent; see `check_size`."""
        for index, size_bytes in enumerate(sizes_bytes):
            self.check_size(size_bytes, f"{field}[{index}]")

    def measure(self) -> Measure:
        """Return an empty request."""
        return Measure(self)


@dataclass(slots=True)
class Measure:
    """How full a request is.

    Attributes:
        budget: Bounds of the request.
        items: Number of texts or vectors so far.
        size_bytes: Bytes so far.
        tokens: Tokens so far, by their upper bound.
    """

    budget: Budget
    items: int = 0
    size_bytes: int = 0
    tokens: int = 0

    def fits(self, item_bytes: int) -> bool:
        """Return whether one more item fits. The first always does: it cannot be split."""
        if not self.items:
            return True
        budget = self.budget
        return (
            self.items < min(budget.items, budget.reply_items)
            and self.size_bytes + _padded(item_bytes) <= budget.request_bytes
            and self.tokens + self._tokens(item_bytes) <= budget.tokens
        )

    def add(self, item_bytes: int) -> None:
        """Count one more item."""
        self.items += 1
        self.size_bytes += _padded(item_bytes)
        self.tokens += self._tokens(item_bytes)

    def _tokens(self, item_bytes: int) -> int:
        # No tokenizer makes more tokens of a text than it has bytes.
        return min(self.budget.item_tokens, item_bytes + _SPECIAL_TOKENS)


def make_budget(
    limits: ServerLimits, model: ModelInfo, reply_row_bytes: int, max_message_bytes: int
) -> Budget:
    """Return what one request may hold.

    Args:
        limits: The server's bounds.
        model: The model that will answer.
        reply_row_bytes: Size of the answer to one item.
        max_message_bytes: The client's own bound of a message.
    """
    message_bytes = min(limits.max_message_bytes, max_message_bytes)
    room_bytes = max(1, message_bytes - _MESSAGE_OVERHEAD_BYTES)
    queue_tokens = limits.max_queued_tokens or limits.max_texts_per_request * model.max_seq_length
    return Budget(
        items=min(limits.max_texts_per_request, CHUNK_TEXTS),
        request_bytes=room_bytes,
        reply_items=max(1, room_bytes // _padded(reply_row_bytes)),
        tokens=max(1, queue_tokens // _QUEUE_SHARES),
        item_tokens=max(1, model.max_seq_length),
    )


def split(sizes_bytes: Sequence[int], budget: Budget) -> Iterator[tuple[int, int]]:
    """Yield ranges [start, stop) that cover all items in order, each within the budget.

    Args:
        sizes_bytes: Size of each item.
        budget: What a range may hold.
    """
    start = 0
    measure = budget.measure()
    for index, size_bytes in enumerate(sizes_bytes):
        if not measure.fits(size_bytes):
            yield start, index
            start, measure = index, budget.measure()
        measure.add(size_bytes)
    if start < len(sizes_bytes):
        yield start, len(sizes_bytes)


def _padded(item_bytes: int) -> int:
    return item_bytes + _ITEM_OVERHEAD_BYTES
