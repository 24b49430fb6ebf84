"""Holds what a request expects of vectors against the model that would make them."""

from __future__ import annotations

from unitvec_server.engine.requests import Model
from unitvec_server.errors import WrongIdentity
from unitvec_server.model.fingerprints import Fingerprints


def check_expected(model: Model, expected: Fingerprints, *, field: str) -> None:
    """Makes sure that a model's vectors are the expected ones.

    Args:
        model: The model that would make them.
        expected: Fingerprints as asked for; an empty one does not count.
        field: Name of the options that hold them, for the error.

    Raises:
        WrongIdentity: They are others, or the artifact does not tell.
    """
    for name, wanted, found in zip(Fingerprints._fields, expected, model.identity, strict=True):
        if wanted and wanted != found:
            has = f"has {name} {found}" if found else f"tells no {name}; export it again"
            raise WrongIdentity(
                f"{field}.expected_{name} is {wanted[:100]!r}, and model {model.name} {has}",
                reason=f"{name.upper()}_MISMATCH",
                field=f"{field}.expected_{name}",
                metadata={f"expected_{name}": wanted[:100], name: found, "model": model.name},
            )
