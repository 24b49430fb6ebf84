"""The page at ``/``: a playground in the browser, made of files that need nothing from elsewhere.

The page embeds through OpenAI's API, as any client does. Only what that API does not tell has
routes of its own: what is served, and the tokens of a text with those that are cut.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from unitvec_protos import __version__
from unitvec_server.config import ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.engine.requests import Model
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import InvalidRequest
from unitvec_server.http.apis import openai
from unitvec_server.http.exchange import HTML, Reply, Request, Route, from_json, to_json
from unitvec_server.http.inputs import write_list
from unitvec_server.model.tokenizer import TokenizedText

API = "page"

_TYPES = {
    ".html": HTML,
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    # The texts of users are shown here: nothing but these files may run, and nothing may leave.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # another version of the server may come to the same address
}


class TokensRequest(msgspec.Struct):
    """The body of ``/page/tokens``."""

    text: str
    model: str = ""
    prompt_name: str | None = None


_TOKENS = msgspec.json.Decoder(TokensRequest)


class Page:
    """Answers browsers.

    Args:
        backend: The engine, once it is there.
        config: The configuration, whose limits it tells.
        grpc_port: Returns the port of gRPC, which the calls to copy name.
    """

    def __init__(
        self, backend: Backend, config: ServerConfig, grpc_port: Callable[[], int]
    ) -> None:
        self._backend, self._config, self._grpc_port = backend, config, grpc_port
        self._files = _read_files()

    def routes(self) -> list[Route]:
        """The routes. Files are for anyone, since they tell nothing of this server."""
        rest = (API, openai.write_error)
        tokens = "Tokens of a text, and which are cut"
        return [
            Route("GET", "/", self.file, *rest, "A playground in the browser", is_probe=True),
            Route("GET", "/page/", self.file, *rest, "Files of the playground", is_probe=True),
            Route("GET", "/page/facts", self.facts, *rest, "What is served", None, dict),
            Route("POST", "/page/tokens", self.tokens, *rest, tokens, TokensRequest, dict),
        ]

    async def file(self, request: Request) -> Reply:
        """Answers with a file; without a name, with the page itself."""
        found = self._files.get(request.argument or "index.html")
        if found is None:
            raise InvalidRequest("the page has no such file", reason="NO_SUCH_PATH")
        return found

    async def facts(self, _: Request) -> Reply:
        """Tells what is served."""
        facts = {
            "version": __version__,
            "grpc_port": self._grpc_port(),
            "apis": self._config.http_apis,
            "wants_token": self._config.wants_token,
            "max_texts_per_request": self._config.max_texts_per_request,
            "models": [_describe(model) for model in self._backend.engine.models.values()],
        }
        return Reply(to_json(facts))

    async def tokens(self, request: Request) -> Reply:
        """Splits a text, and tells which tokens are kept."""
        asked: TokensRequest = from_json(_TOKENS, request.body)
        engine = self._backend.engine
        model = engine.model(asked.model)
        prompt = engine.prompt(model, asked.prompt_name)
        name = asked.prompt_name
        [found] = await engine.tokenize(model, [asked.text], prompt_name=name, side=None)
        limits = {"max_tokens": model.manifest.max_seq_length, "kept_tokens": found.kept_tokens}
        tokens = _place(found, prompt + asked.text, prompt_chars=len(prompt))
        written = await run_off_loop(engine.executor, functools.partial(write_list, tokens))
        return Reply(b'%b,"tokens":%b}' % (to_json(limits)[:-1], written))


def _read_files() -> dict[str, Reply]:
    """The files, by name."""
    folder = importlib.resources.files("unitvec_server.http").joinpath("page")
    return {
        one.name: Reply(one.read_bytes(), _TYPES["." + one.name.rpartition(".")[2]], 200, _HEADERS)
        for one in folder.iterdir()
    }


def _describe(model: Model) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": model.name,
        "model_id": manifest.model_id,
        "precision": model.precision,
        "dimensions": manifest.dim,
        "max_tokens": manifest.max_seq_length,
        "prompts": manifest.prompts,
        "default_prompt_name": manifest.default_prompt_name,
        "space": model.identity.space,
    }


def _place(found: TokenizedText, text: str, *, prompt_chars: int) -> Iterator[dict[str, Any]]:
    """Each token with its part of the text, and whether the model sees it."""
    kept_start, kept_end = found.kept_span
    for number, token, (start, end), special in zip(
        found.ids, found.tokens, found.offsets, found.special, strict=True
    ):
        yield {
            "id": number,
            "token": token,
            "text": token if special else text[start:end],
            "is_special": special,
            "is_prompt": not special and end <= prompt_chars,
            "is_kept": special or end <= prompt_chars or kept_start <= start < end <= kept_end,
        }
