"""What a line of progress says of things that are counted."""

from __future__ import annotations

from unitvec_client.console.terminal import clock_face


class Progress:
    """Counts things, and says how many are done and how fast.

    Args:
        total: How many there are; None if that is not known.
        done: How many of them were done before.
        noun: What they are called.
    """

    def __init__(self, total: int | None, *, done: int = 0, noun: str = "texts") -> None:
        self._total = total
        self._noun = noun
        self._before = done
        self._count = done

    def advance(self) -> None:
        """Count one."""
        self._count += 1

    def forms(self, elapsed_s: float) -> tuple[str, ...]:
        """Return what to show, from long to short.

        Args:
            elapsed_s: Since the first of those that were not done before, in seconds.
        """
        count, total = self._count, self._total
        rate = (count - self._before) / elapsed_s
        if not rate:
            return (f"{clock_face(elapsed_s)}  waiting for the first {self._noun}",)
        speed = f"{rate:,.0f} {self._noun}/s"
        if not total:
            return f"{count:,} {self._noun}  {speed}", f"{count:,} {self._noun}"
        done = min(1.0, count / total)
        bar = ("█" * round(done * 20)).ljust(20, "░")
        left = f"{clock_face(max(0, total - count) / rate)} left"
        counts = f"{count:,} of {total:,} {self._noun}"
        return (
            f"{bar} {done:4.0%}  {counts}  {speed}  {left}",
            f"{done:.0%}  {counts}  {speed}  {left}",
            f"{done:.0%}  {counts}  {left}",
            f"{done:.0%}  {left}",
            f"{done:.0%}",
        )
