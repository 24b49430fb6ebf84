"""What an index is filled with, stored beside it: only such vectors are comparable with its own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unitvec_client.errors import FillingWarning, UnitvecError
from unitvec_client.providers.prompts import choose_prompt
from unitvec_client.providers.provider import Provider, TextOptions
from unitvec_client.results import ModelInfo

# A server that does not answer must not keep an index from being made.
_PEEK_S = 5.0


@dataclass(frozen=True, slots=True)
class Filling:
    """What the vectors of an index are.

    Attributes:
        space: Fingerprint of their space; empty if the server does not tell.
        query_prompt: Text put before queries; None where there are none.
        document_prompt: Text put before documents.
    """

    space: str
    query_prompt: str | None
    document_prompt: str | None

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Return how it differs from what was stored, in words; what is not known does not."""
        return [
            f"{name} {stored[name]!r} and not {now!r}"
            for name, now in asdict(self).items()
            if stored.get(name) is not None and now is not None and stored[name] != now
            if name != "space" or (stored[name] and now)
        ]

    def warn_of(self, stored: Mapping[str, Any], index: str) -> bool:
        """Warn if an index was filled with something else; return whether it was.

        Args:
            stored: What was stored with the index.
            index: What it is called in the warning.
        """
        differences = self.differences(stored)
        if differences:
            warnings.warn(
                f"{index} was filled with {', '.join(differences)}: vectors of both are not "
                "comparable; name the model and the prompts that it was filled with, or fill it "
                "anew",
                FillingWarning,
                stacklevel=4,
            )
        return bool(differences)


def read_filling(
    provider: Provider, queries: TextOptions | None, documents: TextOptions | None
) -> Filling | None:
    """Return what a provider fills an index with; None where the server does not say so soon."""
    try:
        model = provider.model(timeout_s=_PEEK_S)
    except UnitvecError:
        return None
    return Filling(model.space, _prompt(model, queries), _prompt(model, documents))


def _prompt(model: ModelInfo, options: TextOptions | None) -> str | None:
    if options is None:
        return None
    name = options.prompt_name
    if name is None and options.role is not None:
        name = choose_prompt(model, options.role)
    return model.prompts.get(model.default_prompt_name if name is None else name, "")
