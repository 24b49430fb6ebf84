"""The routes as OpenAPI has them, and as a page to read, which needs nothing from elsewhere."""

from __future__ import annotations

import functools
import html
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from unitvec_protos import __version__
from unitvec_server.http.apis import openai
from unitvec_server.http.exchange import HTML, JSON, Reply, Request, Route, to_json

API = "docs"

_SCHEMAS = "#/components/schemas/{name}"

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 50rem; padding: 1rem; }
h2 { margin-top: 2.5rem; text-transform: capitalize; }
details { border-top: 1px solid #8886; padding: .5rem 0; }
summary { cursor: pointer; }
code { font: .9em ui-monospace, monospace; }
pre { background: #8882; border-radius: .4rem; overflow-x: auto; padding: .7rem; }
td, th { padding: .1rem 1rem .1rem 0; text-align: left; vertical-align: top; }
.method { display: inline-block; font-weight: 600; width: 3.5rem; }
"""


class Pages:
    """Answers with descriptions of the routes, to anyone: they tell no more than a try would.

    Args:
        table: The routes.
        wants_token: Whether all but probes ask for a token.
    """

    def __init__(self, table: Sequence[Route], *, wants_token: bool) -> None:
        self._table, self._wants_token = table, wants_token

    def routes(self) -> list[Route]:
        """The routes."""
        rest = (API, openai.write_error)
        spec, page = "These APIs as OpenAPI", "These APIs as a page"
        return [
            Route("GET", "/openapi.json", self.openapi, *rest, spec, None, dict, is_probe=True),
            Route("GET", "/docs", self.page, *rest, page, is_probe=True),
        ]

    async def openapi(self, _: Request) -> Reply:
        """Answers with the specification."""
        return Reply(to_json(self._spec))

    async def page(self, _: Request) -> Reply:
        """Answers with the page."""
        return Reply(_write_page(self._table, self._spec).encode(), HTML)

    @functools.cached_property
    def _spec(self) -> Mapping[str, Any]:
        return specify(self._table, wants_token=self._wants_token)


def specify(table: Sequence[Route], *, wants_token: bool) -> dict[str, Any]:
    """Returns the specification of routes, as OpenAPI 3.1 has it."""
    types = list(dict.fromkeys(kind for route in table for kind in _types(route)))
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(_path(route), {})[route.method.lower()] = _operation(route, by_type)
    spec: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "unitvec", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components},
    }
    if wants_token:
        spec["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        spec["security"] = [{"token": []}]
    return spec


def _types(route: Route) -> Iterator[Any]:
    """The types that a route speaks of."""
    asked = route.request_type if isinstance(route.request_type, tuple) else (route.request_type,)
    kinds = (*asked, route.reply_type, _error_type(route))
    yield from (kind for kind in kinds if kind is not None)


def _error_type(route: Route) -> Any:
    """The type of the body of its errors."""
    return typing.get_type_hints(route.write_error)["return"]


def _path(route: Route) -> str:
    takes_more = route.path.endswith("/") and route.path != "/"
    return route.path + "{id}" if takes_more else route.path


def _operation(route: Route, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    """One route."""
    error = {"schema": schemas[_error_type(route)]}
    failed = {"description": "An error, as this API writes it", "content": {JSON: error}}
    done: dict[str, Any] = {"description": "The reply"}
    if route.reply_type is not None:
        done["content"] = {JSON: {"schema": schemas[route.reply_type]}}
    elif route.path.startswith("/.well-known"):
        done = {"description": "Yes, without a body"}
    else:
        done["content"] = {"text/plain": {"schema": {"type": "string"}}}
    status = "204" if "content" not in done else "200"
    operation: dict[str, Any] = {
        "operationId": f"{route.method} {_path(route)}",
        "summary": route.summary,
        "tags": [route.api],
        "responses": {status: done, "4XX": failed, "5XX": failed},
    }
    if route.is_probe:
        operation["security"] = []
    if route.request_type is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: _body(route, schemas)}}
    if "{id}" in _path(route):
        name = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        operation["parameters"] = [name]
    return operation


def _body(route: Route, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    kinds = route.request_type
    both = isinstance(kinds, tuple)
    schema = {"anyOf": [schemas[kind] for kind in kinds]} if both else schemas[kinds]
    return {"schema": schema, "example": route.example}


def _write_page(table: Sequence[Route], spec: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for api in dict.fromkeys(route.api for route in table):
        parts.append(f"<h2>{html.escape(api)}</h2>")
        parts += [_write_route(route, spec) for route in table if route.api == api]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>unitvec: HTTP APIs</title><style>{_STYLE}</style><h1>HTTP APIs of unitvec</h1>"
        "<p>Where the server wants tokens, send one with each request but the probes: "
        "<code>authorization: Bearer TOKEN</code>. The same as "
        '<a href="openapi.json">OpenAPI</a>.</p>' + "".join(parts)
    )


def _write_route(route: Route, spec: Mapping[str, Any]) -> str:
    command = f"curl $URL{_path(route)}"
    if route.example is not None:
        command += f" -H 'content-type: application/json' -d '{json.dumps(route.example)}'"
    name = f"{html.escape(route.api)}{html.escape(_path(route))}"
    return (
        f'<details id="{name}"><summary><span class="method">{route.method}</span>'
        f"<code>{html.escape(_path(route))}</code> {html.escape(route.summary)}</summary>"
        f"<pre><code>{html.escape(command)}</code></pre>{_write_fields(route, spec)}</details>"
    )


def _write_fields(route: Route, spec: Mapping[str, Any]) -> str:
    """The fields of the body, of the first kind where there are several."""
    if route.request_type is None:
        return ""
    content = spec["paths"][_path(route)]["post"]["requestBody"]["content"][JSON]["schema"]
    reference = content.get("$ref") or content["anyOf"][0]["$ref"]
    schema = spec["components"]["schemas"][reference.rpartition("/")[2]]
    rows = [
        f"<tr><td><code>{html.escape(name)}</code><td>{html.escape(_name_type(field))}"
        f"<td>{'required' if name in schema.get('required', ()) else ''}"
        for name, field in schema["properties"].items()
    ]
    text = html.escape(schema.get("description", ""))
    return f"<p>{text}</p><table>{''.join(rows)}</table>"


def _name_type(schema: Mapping[str, Any]) -> str:
    """A type in a few words."""
    if "enum" in schema:
        return " or ".join(map(repr, schema["enum"]))
    if "anyOf" in schema:
        kinds = [_name_type(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(kinds)
    if schema.get("type") == "array":
        return f"list of ({_name_type(schema['items'])})"
    return str(schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])
