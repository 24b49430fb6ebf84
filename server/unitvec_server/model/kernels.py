"""What unitvec-kernels, which not every machine has, offers on this one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The fused operator, or why there is none.

    Attributes:
        library: Its file; None if it cannot run here.
        backend: The instruction set that runs it, such as ``avx512``.
        reason: Why it cannot run, in a few words; empty if it can.
        arithmetic: Version of what it computes, to the last bit.
    """

    library: Path | None
    backend: str
    reason: str
    arithmetic: int = 1

    def runtime(self, graph: str) -> dict[str, Any]:
        """What decides the bits of vectors beside a fused graph of this name.

        It is the same on every machine, but for bf16 on AMX, which sums in an order of its own.
        """
        everywhere = {"operator": "unitvec", "arithmetic": self.arithmetic}
        has_own_order = graph == "bf16" and self.backend == "amx"
        return {**everywhere, "tiles": "amx"} if has_own_order else everywhere


NO_KERNELS = Kernels(None, "", reason="unitvec-kernels is not installed")


def find_kernels() -> Kernels:
    """Looks for the operator and asks it about this CPU."""
    try:
        import unitvec_kernels
    except ImportError:
        return NO_KERNELS
    try:
        backend = unitvec_kernels.choose()
        library = unitvec_kernels.library_path()
    except unitvec_kernels.Unsupported as exc:
        return dataclasses.replace(NO_KERNELS, reason=str(exc))
    arithmetic = getattr(unitvec_kernels, "ARITHMETIC", 1)  # of releases that did not tell it yet
    return Kernels(library, backend.name, "", arithmetic)
