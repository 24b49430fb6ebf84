"""Routes of a Router: what texts go through, by what is asked for.

`encode(..., task=...)` of sentence-transformers chooses a route. A request to our server names a
prompt, so each task is one: `encode_query` is the prompt query, `encode_document` is document.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unitvec_server.model.artifact import ROUTE_PREFIX

_MODALITY = "text"
_DOCUMENT, _DOCUMENTS = "document", ("passage", "corpus")
"""Prompts of a document by other names: `encode_document` looks for them too."""


@dataclasses.dataclass(frozen=True)
class Route:
    """A way through a model.

    Attributes:
        modules: Loaded modules, in their order.
        task: What sentence-transformers is told to take it; None where that is the default.
        prompts: Texts of the prompts that take it, by name.
        folder: Its folder inside the artifact; empty for the first, which is the artifact itself.
    """

    modules: tuple[Any, ...]
    task: str | None
    prompts: Mapping[str, str]
    folder: str = ""


def read_routes(model: Any) -> list[Route]:
    """All routes of a model, the default first; one for a model without a Router.

    Args:
        model: A loaded `SentenceTransformer`, of modules that `layout.modules` accepts.
    """
    modules = list(model)
    at = next((i for i, each in enumerate(modules) if hasattr(each, "sub_modules")), None)
    if at is None:
        prompts = dict(model.prompts) if any(model.prompts.values()) else {}
        return [Route(tuple(modules), None, prompts)]
    router = modules[at]
    chosen = _choose(router, model.prompts)
    names: dict[str, list[str]] = {}
    for name, route in chosen.items():
        names.setdefault(route, []).append(name)
    return [
        Route(
            modules=(*modules[:at], *router.sub_modules[route], *modules[at + 1 :]),
            task=None if "" in own else _task(router, own),
            prompts={name: _text(model, name) for name in own if name},
            folder=f"{ROUTE_PREFIX}{_plain(route)}" if index else "",
        )
        for index, (route, own) in enumerate(names.items())
    ]


def folders_by_prompt(routes: Sequence[Route]) -> dict[str, str]:
    """Folder of the route of each prompt; none where there is one route.

    The empty name stands for no prompt, and is missing where no route is the default.
    """
    if len(routes) == 1 and routes[0].task is None:
        return {}
    folders = {name: route.folder for route in routes for name in route.prompts}
    default = next((route for route in routes if route.task is None), None)
    return folders if default is None else {"": default.folder, **folders}


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]", "_", name)


def _task(router: Any, names: Sequence[str]) -> str:
    """A task among the names of a route."""
    tasks = _tasks(router)
    return next((name for name in names if name in tasks), _DOCUMENT)


def _tasks(router: Any) -> list[str]:
    mapped = [task for task, _ in router.route_mappings if task]
    names = [*router.sub_modules.keys(), *mapped]
    return [name for name in dict.fromkeys(names) if _resolve(router, name) is not None]


def _choose(router: Any, prompts: Mapping[str, str]) -> dict[str, str]:
    """Routes by the name of a prompt; the empty name, first, stands for none."""
    default = _resolve(router, None)
    chosen = {"": default, **{task: _resolve(router, task) for task in _tasks(router)}}
    for name in prompts:
        other = _DOCUMENT if name in _DOCUMENTS and _DOCUMENT in chosen else ""
        chosen.setdefault(name, chosen[other])
    return {name: route for name, route in chosen.items() if route is not None}


def _resolve(router: Any, task: str | None) -> str | None:
    """The route of a task, in the order that sentence-transformers documents; None if none."""
    mappings, routes = router.route_mappings, router.sub_modules
    for key in ((task, _MODALITY), (task, None), (None, _MODALITY), (None, None)):
        if key in mappings:
            return str(mappings[key])
    if task in routes:
        return task
    if _MODALITY in routes:
        return _MODALITY
    default: str | None = router.default_route if task is None else None
    return default


def _text(model: Any, name: str) -> str:
    """Text of a prompt; a task without one takes the default, as `encode` does."""
    default = model.prompts.get(model.default_prompt_name or "", "")
    return str(model.prompts.get(name, default))
