"""The limits of what is in work at a time, through all doors together."""

from __future__ import annotations

from unitvec_server.errors import Overloaded

_RETRY_S = 1.0


class Gate:
    """Counts the calls in work and refuses those beyond a limit. A context manager for one call.

    Args:
        full: The words of the refusal that follow the number of calls.
        most: The limit.

    Attributes:
        count: The calls in work now.
        most: The limit.
    """

    def __init__(self, full: str, most: float) -> None:
        self.count = 0
        self.most = most
        self._full = full

    def __enter__(self) -> None:
        """Lets a call in.

        Raises:
            Overloaded: The limit is reached.
        """
        if self.count >= self.most:
            raise Overloaded(
                f"{self.count} {self._full}; try again soon",
                retry_delay_s=_RETRY_S,
                bound="max_calls",
            )
        self.count += 1

    def __exit__(self, *_: object) -> None:
        """Lets it out."""
        self.count -= 1


class HeldBytes:
    """The bytes of the messages of unary calls, until their clients have taken the whole reply.

    A client that reads slowly, or not at all, thus keeps for itself what it asked for, and others
    are refused once the limit is reached.

    Args:
        most: The limit.

    Attributes:
        count: The bytes that count now.
    """

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most

    def admit(self, size_bytes: int) -> None:
        """Counts a request if there is room. While nothing counts there always is.

        Raises:
            Overloaded: There is no room.
        """
        if self.count and self.count + size_bytes > self._most:
            raise Overloaded(
                f"calls in work hold {self.count} bytes in messages and this one has "
                f"{size_bytes}; the limit is {self._most}; try again soon",
                retry_delay_s=_RETRY_S,
                bound="messages",
            )
        self.count += size_bytes

    def add(self, size_bytes: int) -> None:
        """Counts a reply. It has been made, so it is not refused."""
        self.count += size_bytes

    def release(self, size_bytes: int) -> None:
        """Counts so many bytes no longer."""
        self.count -= size_bytes
