"""Which prompt goes before a query or a document: one rule for all integrations.

It is that of `encode_query` and `encode_document` of sentence-transformers (5.0 to 6.2), so that
an index may be filled by either. They look for the prompts `query`, and `document`, `passage` or
`corpus`; but each model has a `query` and a `document`, empty where its author wrote none, so
that no other name is ever reached, and neither is the model's default prompt.

    prompts of the model                before a query    before a document
    query, document                     query             document
    query                               query             nothing
    query, passage                      query             nothing: passage is passed over
    default prompt alone                nothing           nothing: it is passed over

What is passed over was mostly meant to be used. Since vectors with and without it must not be
mixed, it is not used in silence either: a warning names it, and naming a prompt ends the warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from unitvec_client.errors import ErrorFacts, InputError
from unitvec_client.results import ModelInfo

Role = Literal["query", "document"]

_NAMES: dict[Role, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
"""Parts of names that prompts for a role have, such as ``retrieval.passage``."""


def choose_prompt(model: ModelInfo, role: Role) -> str:
    """Return the name of the prompt for queries or documents; empty for no prompt."""
    return role if role in model.prompts else ""


def describe_passed_over(model: ModelInfo, role: Role) -> str:
    """Return what to say of the prompts that are passed over; empty if there are none."""
    if model.prompts.get(role):
        return ""
    passed = [
        name for name, text in sorted(model.prompts.items()) if text and _is_for(model, name, role)
    ]
    if not passed:
        return ""
    shown = " and ".join(f"{name!r} ({model.prompts[name]!r})" for name in passed)
    return (
        f"the model {model.name} has no prompt {role!r}, so that nothing is put before a {role}, "
        f"as by encode_{role} of sentence-transformers; it has {shown}: name the prompt that a "
        f"{role} is to have, or '' for none"
    )


def _is_for(model: ModelInfo, name: str, role: Role) -> bool:
    """Return whether a prompt is for texts of this role, by its name, or for all texts."""
    if any(part in name.lower() for part in _NAMES[role]):
        return True
    other: Role = "query" if role == "document" else "document"
    is_for_other = any(part in name.lower() for part in _NAMES[other])
    return name == model.default_prompt_name and not is_for_other


class Placement(NamedTuple):
    """Who puts a prompt before texts: the server, by the prompt's name, and this side."""

    name: str
    prefix: str


def find_prompt(prompts: Mapping[str, str], name: str | None) -> str:
    """Return the text of a prompt; empty for None.

    Raises:
        InputError: If there is none of this name.
    """
    if name is not None and name not in prompts:
        known = ", ".join(prompts) or "none"
        facts = ErrorFacts(reason="UNKNOWN_PROMPT", field="prompt_name")
        raise InputError(f"there is no prompt {name!r}; there are: {known}", facts)
    return "" if name is None else prompts[name]


def place_prompt(model: ModelInfo, prompt: str, task: str | None) -> Placement:
    """Return how a prompt is put before texts of a task.

    The server is told its name where the name does more than put it there: it chooses the route of
    a model that has several, as a task does, and leaves the prompt out of pooling where the model
    wants that. Other models see no difference.

    Raises:
        InputError: If the server would do neither for a prompt that is not among the model's.
    """
    names = [name for name, text in model.prompts.items() if text == prompt]
    if task in model.prompts and model.routed:
        if task in names:
            return Placement(task, "")
        if not model.prompts[task]:
            return Placement(task, prompt)
        raise InputError(f"texts of task {task!r} have its prompt, {model.prompts[task]!r}, alone")
    if model.unpooled_prompts and prompt and not model.routed:
        if not names:
            known = ", ".join(sorted(model.prompts))
            raise InputError(f"the model pools no prompt, which works for its own alone: {known}")
        return Placement(names[0], "")
    return Placement("", prompt)
