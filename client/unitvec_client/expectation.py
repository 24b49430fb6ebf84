"""What vectors a client expects: a fingerprint that it was given, held against each model."""

from __future__ import annotations

from dataclasses import dataclass

from unitvec_client.errors import (
    MODEL_CHANGED,
    ErrorFacts,
    IdentityMismatchError,
    InputError,
    InputTypeError,
    ProtocolError,
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Fingerprints that vectors must have; an empty one does not count.

    Attributes:
        space: Of the space.
        bits: Of how they are computed.
    """

    space: str = ""
    bits: str = ""

    def fits(self, space: str, bits: str) -> bool:
        """Return whether these fingerprints are the expected ones."""
        return self.space in ("", space) and self.bits in ("", bits)

    def check(self, space: str, bits: str, model: str) -> None:
        """Hold it against what a model has.

        Raises:
            IdentityMismatchError: If one differs, or the server does not tell.
        """
        for name, wanted, found in (("space", self.space, space), ("bits", self.bits, bits)):
            if wanted and wanted != found:
                has = f"has {name} {found}" if found else f"tells no {name}"
                metadata = {f"expected_{name}": wanted, name: found, "model": model}
                facts = ErrorFacts(reason=f"{name.upper()}_MISMATCH", metadata=metadata)
                message = f"vectors of {name} {wanted} are expected, and model {model} {has}"
                raise IdentityMismatchError(message, facts)


@dataclass(slots=True)
class OneModel:
    """Holds the replies of one call against each other: all must come from the same model."""

    _first: tuple[str, str] | None = None

    def check(self, space: str, bits: str) -> None:
        """Take in the fingerprints of a reply.

        Raises:
            ProtocolError: If an earlier reply had others.
        """
        if self._first is None:
            self._first = space, bits
        elif self._first != (space, bits):
            message = "the model changed during the call"
            raise ProtocolError(message, ErrorFacts(reason=MODEL_CHANGED))


ANY = Expectation()
"""All vectors will do."""


def read_expectation(expect: object) -> Expectation:
    """Return what a caller expects.

    Args:
        expect: A fingerprint, of a space (``s1-...``) or of bits (``b1-...``); None for any.

    Raises:
        InputTypeError: If it is no str.
        InputError: If it is no fingerprint.
    """
    if expect is None:
        return ANY
    if not isinstance(expect, str):
        raise InputTypeError(f"expect must be str or None, not {type(expect).__name__}")
    if expect.startswith("s") and "-" in expect:
        return Expectation(space=expect)
    if expect.startswith("b") and "-" in expect:
        return Expectation(bits=expect)
    raise InputError(
        f"expect is no fingerprint: {expect!r}; `unitvec models` tells those of a server, such as "
        "s1-066b2c492bb5743498e0"
    )
