"""Which prompt a request names, and what it is worth."""

from __future__ import annotations

from typing import NamedTuple

from unitvec_server.engine.requests import Model
from unitvec_server.errors import InvalidRequest


class Prompt(NamedTuple):
    """A prompt of a model.

    Attributes:
        text: Put before each text; may be empty.
        model: The model that embeds texts with this prompt: one of its routes, or the model itself.
        unpooled_tokens: Number of first tokens that pooling leaves out.
    """

    text: str
    model: Model
    unpooled_tokens: int = 0


def find_prompt(model: Model, name: str | None) -> Prompt:
    """The prompt of this name; empty for none, None for that which the model uses by default.

    Raises:
        InvalidRequest: The model has no such prompt, or does not work without one.
    """
    manifest = model.manifest
    chosen = manifest.default_prompt_name or "" if name is None else name
    if chosen and chosen not in manifest.prompts:
        raise _unknown(f"no prompt {chosen[:100]!r} in model {model.name}", model)
    # A default prompt is text alone: it takes the route of those who name none.
    route = model.routes.get(name or "") if model.routes else model
    if route is None:
        raise _unknown(f"model {model.name} has routes and none by default: name a prompt", model)
    unpooled_tokens = route.manifest.unpooled_tokens.get(chosen, 0)
    return Prompt(manifest.prompts.get(chosen, ""), route, unpooled_tokens)


def _unknown(what: str, model: Model) -> InvalidRequest:
    # Clients of text-embeddings-inference read the names out of these words.
    have = ", ".join(model.manifest.prompts)
    return InvalidRequest(
        f"{what}. Available prompts: [{have}]",
        reason="UNKNOWN_PROMPT",
        field="options.prompt_name",
    )
