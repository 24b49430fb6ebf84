"""What all integrations share: a server's clients, opened when first used, and its prompts."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from unitvec_client.aio import AsyncClient
from unitvec_client.client import Client
from unitvec_client.core.inputs import check_texts
from unitvec_client.errors import ErrorFacts, ModelNotFoundError, PromptWarning, RefusedError
from unitvec_client.options import EmbedOptions
from unitvec_client.providers.endpoint import Endpoint
from unitvec_client.providers.loops import LoopClients
from unitvec_client.providers.prompts import (
    Role,
    choose_prompt,
    describe_passed_over,
)
from unitvec_client.results import EmbedResult, ModelInfo, ServerInfo


@dataclass(frozen=True, slots=True)
class TextOptions(EmbedOptions):
    """How a framework wants its texts embedded: as for `Client.embed`, and for which role.

    The model and the time are those of the endpoint. Where no prompt is named, that of the `role`
    is put before each text, by the rule in `prompts`; without a role, the model's default prompt,
    if any. With `own_norm`, vectors have unit L2 norm if those of the model's own pipeline have
    it, and `normalize` means nothing: a model trained for the inner product keeps the lengths of
    its vectors.
    """

    role: Role | None = None
    own_norm: bool = True


_AS_THEY_ARE = TextOptions()


class Provider:
    """Embeds texts for a framework: blocking, or awaited in any event loop.

    Nothing is opened before the first call. Threads may share one. A pickle or a copy holds
    the endpoint alone and opens clients of its own. After `close` it opens them again.

    Args:
        endpoint: The model to use.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._loops = LoopClients(self._open_async)
        self._model: ModelInfo | None = None
        self._told: set[str] = set()

    def __getstate__(self) -> Endpoint:
        return self.endpoint

    def __setstate__(self, endpoint: Endpoint) -> None:
        self.__init__(endpoint)  # type: ignore[misc]  # as if it were new

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Provider) and other.endpoint == self.endpoint

    def __repr__(self) -> str:
        model = self.endpoint.model
        return f"Provider({self.endpoint.target!r}{f', {model!r}' if model else ''})"

    __hash__ = None  # type: ignore[assignment]  # an endpoint may hold options that have none

    def embed(self, texts: object, options: TextOptions = _AS_THEY_ARE) -> EmbedResult:
        """Turn texts into vectors (n, D).

        Args:
            texts: A sequence of str.
            options: How they become vectors.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails; all or nothing.
        """
        checked = check_texts(texts)
        with self._model_may_be_outdated():
            keywords = self._keywords(self.model(), len(checked), options)
            result: EmbedResult = self._open().embed_result(checked, **keywords)
            return result

    async def aembed(self, texts: object, options: TextOptions = _AS_THEY_ARE) -> EmbedResult:
        """Turn texts into vectors (n, D); see `embed`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails; all or nothing.
        """
        checked = check_texts(texts)
        client = await self._loops.get()
        with self._model_may_be_outdated():
            if self._model is None:
                info = await client.models(timeout_s=self.endpoint.timeout_s)
                self._model = find_model(info, self.endpoint.model)
            keywords = self._keywords(self._model, len(checked), options)
            result: EmbedResult = await client.embed_result(checked, **keywords)
            return result

    def model(self, timeout_s: float | None = None) -> ModelInfo:
        """Return what the server says of the model; asked once.

        Args:
            timeout_s: Time for that; None for the endpoint's.

        Raises:
            ModelNotFoundError: If it is not served.
            UnitvecError: If the call fails.
        """
        model = self._model
        if model is None:
            info = self._open().models(timeout_s=timeout_s or self.endpoint.timeout_s)
            model = self._model = find_model(info, self.endpoint.model)
        return model

    def open(self) -> None:
        """Open the blocking client, which connects at its first call."""
        self._open()

    async def aopen(self) -> None:
        """Open the running loop's client, which connects at its first call."""
        await self._loops.get()

    def close(self) -> None:
        """Close the blocking client, and let event loops close theirs."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self._loops.close()

    async def aclose(self) -> None:
        """Close all clients, that of the running loop at once."""
        await self._loops.aclose()
        self.close()

    def _open(self) -> Client:
        with self._lock:
            if self._client is None:
                endpoint = self.endpoint
                self._client = Client(
                    endpoint.target, connection=endpoint.connect(), expect=endpoint.expect
                )
            return self._client

    def _open_async(self) -> AsyncClient:
        endpoint = self.endpoint
        return AsyncClient(endpoint.target, connection=endpoint.connect(), expect=endpoint.expect)

    def _keywords(self, model: ModelInfo, texts: int, options: TextOptions) -> dict[str, Any]:
        keywords = asdict(options)
        del keywords["role"], keywords["own_norm"]
        if options.own_norm:
            keywords["normalize"] = model.normalized
        if options.prompt_name is None and options.role is not None:
            keywords["prompt_name"] = choose_prompt(model, options.role)
            self._tell_once(describe_passed_over(model, options.role))
        return {**keywords, "model": model.name, "timeout_s": self.endpoint.deadline_s(texts)}

    def _tell_once(self, message: str) -> None:
        if message and message not in self._told:
            self._told.add(message)
            warnings.warn(message, PromptWarning, stacklevel=2)

    @contextmanager
    def _model_may_be_outdated(self) -> Iterator[None]:
        """Ask for the model again where the server refused what it had said it takes."""
        try:
            yield
        except RefusedError:
            self._model = None
            raise


def provider_of(endpoint: Endpoint, opened: Provider | None) -> Provider:
    """Return the provider that was opened, or another in its place if it is of another endpoint.

    Args:
        endpoint: Server and model that are wanted now.
        opened: Provider that was used last, which is closed if it is of another endpoint.
    """
    if opened is not None:
        if opened.endpoint == endpoint:
            return opened
        opened.close()
    return Provider(endpoint)


def query_options(prompt_name: str | None, dimensions: int | None) -> TextOptions:
    """Return the options for queries; the model's own prompt for them where none is named."""
    return TextOptions(prompt_name=prompt_name, dimensions=dimensions, role="query")


def document_options(prompt_name: str | None, dimensions: int | None) -> TextOptions:
    """Return the options for documents; the model's own prompt for them where none is named."""
    return TextOptions(prompt_name=prompt_name, dimensions=dimensions, role="document")


def find_model(info: ServerInfo, name: str) -> ModelInfo:
    """Return a served model by its name, else by the id it was exported from.

    Args:
        info: What is served.
        name: Empty for the default.

    Raises:
        ModelNotFoundError: If it is not served.
    """
    models = info.models
    candidates = [model for model in models if model.is_default and not name]
    candidates += [model for model in models if model.name == name]
    candidates += [model for model in models if model.model_id == name]
    if not candidates:
        served = ", ".join(model.name for model in models)
        facts = ErrorFacts(reason="MODEL_NOT_FOUND", field="model")
        raise ModelNotFoundError(f"model {name!r} is not served; there are: {served}", facts)
    return candidates[0]


def to_lists(result: EmbedResult) -> list[list[float]]:
    """Return the vectors as lists of Python floats, as most frameworks keep them."""
    rows: Any = result.values().tolist()
    lists: list[list[float]] = rows
    return lists
