"""unitvec as embedders of Haystack (the extra ``haystack``).

Haystack loads stored pipelines with components of modules that are named to it only:
``Pipeline.loads(stored, allowed_modules=["unitvec_client.integrations.haystack"])``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from unitvec_client.connection import ConnectionOptions
from unitvec_client.errors import InputError, InputTypeError
from unitvec_client.integrations.extras import missing
from unitvec_client.methods.core import DEFAULT_TIMEOUT_S
from unitvec_client.providers.connections import from_config, to_config
from unitvec_client.providers.endpoint import Endpoint
from unitvec_client.providers.prompts import Role
from unitvec_client.providers.provider import Provider, TextOptions, to_lists
from unitvec_client.results import EmbedResult
from unitvec_client.values import read_count

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import Secret
except ImportError as exc:
    raise missing("haystack", exc) from exc


@dataclass(eq=False)
class _Embedder:
    """What both embedders are made of; a dataclass, as Haystack reads the signature.

    Attributes:
        target: ``host:port`` or any other gRPC target; None for the variable UNITVEC_TARGET, or
            localhost:50051 where it is not set.
        model: Name of the model; empty for the server's default.
        token: Token for the server; by default the variable UNITVEC_TOKEN, where it is set.
        connection: TLS and channel options, without a token; plaintext by default. Certificates
            are named by their paths if the pipeline is to be stored.
        prompt_name: The prompt put before each text, by name; empty for no prompt. None takes
            the model's own prompt ``query`` or ``document``, if it has one.
        dimensions: Keep only this many leading dimensions; None keeps all.
        prefix: Put before each text, after the prompt.
        suffix: Put after each text.
        timeout_s: For each 512 texts of a call, in seconds; None for no deadline.
        expect: Fingerprint that all vectors must have, such as ``s1-...``; None for any.
    """

    target: str | None = None
    _: KW_ONLY
    model: str = ""
    token: Secret | None = Secret.from_env_var("UNITVEC_TOKEN", strict=False)  # noqa: RUF009  # frozen
    connection: ConnectionOptions | None = None
    prompt_name: str | None = None
    dimensions: int | None = None
    prefix: str = ""
    suffix: str = ""
    timeout_s: float | None = DEFAULT_TIMEOUT_S
    expect: str | None = None
    _opened: Provider | None = field(default=None, init=False, repr=False)

    _role: ClassVar[Role]

    def __post_init__(self) -> None:
        if self.connection is not None and self.connection.token is not None:
            raise InputError("give the token as a Secret, by `token`")
        if self.dimensions is not None:  # in Python's own type, which YAML can hold
            self.dimensions = read_count("dimensions", self.dimensions)

    def warm_up(self) -> None:
        """Open the blocking client, which connects at its first call."""
        self._provider().open()

    async def warm_up_async(self) -> None:
        """Open the running event loop's client, which connects at its first call."""
        await self._provider().aopen()

    def close(self) -> None:
        """Close the connections. A later run opens them again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    async def close_async(self) -> None:
        """`close`, in the event loop that made calls: its connection is closed at once."""
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

    def to_dict(self) -> dict[str, Any]:
        """Return the component as a dictionary, with nothing secret in it.

        Raises:
            InputError: If `connection` holds PEM data in place of a file's path.
            ValueError: If `token` is no variable's name but the token itself.
        """
        parameters = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        parameters["connection"] = to_config(self.connection)
        return default_to_dict(self, **parameters)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the component that `to_dict` described. Nothing is opened."""
        parameters = dict(data["init_parameters"])
        parameters["connection"] = from_config(parameters.get("connection"))
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    def _provider(self) -> Provider:
        if self._opened is None:
            token = None if self.token is None else self.token.resolve_value()
            connection = replace(self.connection or ConnectionOptions(), token=token)
            endpoint = Endpoint(
                self.target,
                self.model,
                connection,
                timeout_s=self.timeout_s,
                expect=self.expect,
            )
            self._opened = Provider(endpoint)
        return self._opened

    def _options(self) -> TextOptions:
        return TextOptions(
            prompt_name=self.prompt_name, dimensions=self.dimensions, role=self._role
        )


@component
class UnitvecTextEmbedder(_Embedder):
    """Embeds a query, by a unitvec server. Connects at the first run.

    Its arguments are described at `_Embedder`. In a pipeline:

        pipeline.add_component("query", UnitvecTextEmbedder("localhost:50051"))
        pipeline.connect("query.embedding", "retriever.query_embedding")
    """

    _role = "query"

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Embed a query.

        Args:
            text: The query.

        Returns:
            ``embedding``, D floats, and ``meta``: the model, the tokens used, and whether the
            text was too long and cut.

        Raises:
            UnitvecError: If the call fails.
        """
        result = self._provider().embed([self._prepare(text)], self._options())
        return _answer(result)

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run`, awaited.

        Args:
            text: The query.

        Raises:
            UnitvecError: If the call fails.
        """
        result = await self._provider().aembed([self._prepare(text)], self._options())
        return _answer(result)

    def _prepare(self, text: str) -> str:
        if not isinstance(text, str):
            raise InputTypeError(f"text must be a str, not {type(text).__name__}")
        return f"{self.prefix}{text}{self.suffix}"


@component
@dataclass(eq=False)
class UnitvecDocumentEmbedder(_Embedder):
    """Embeds documents, any number in one run, by a unitvec server. Connects at the first run.

    Arguments are those of `_Embedder`, by name but for `target`, and two more.

            pipeline.add_component("documents", UnitvecDocumentEmbedder("localhost:50051"))
            pipeline.connect("documents.documents", "writer.documents")

    Attributes:
        meta_fields_to_embed: Names of metadata to put before the content, where they are set.
        embedding_separator: Put between them and the content.
    """

    meta_fields_to_embed: list[str] | None = None
    embedding_separator: str = "\n"

    _role = "document"

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed documents.

        Args:
            documents: They are left as they are.

        Returns:
            ``documents``, copies with embeddings, and ``meta``: the model, the tokens used, and
            the ids of documents that were too long and cut.

        Raises:
            UnitvecError: If the call fails; all or nothing.
        """
        result = self._provider().embed(self._prepare(documents), self._options())
        return _answers(documents, result)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run`, awaited.

        Args:
            documents: They are left as they are.

        Raises:
            UnitvecError: If the call fails; all or nothing.
        """
        result = await self._provider().aembed(self._prepare(documents), self._options())
        return _answers(documents, result)

    def _prepare(self, documents: list[Document]) -> list[str]:
        if not isinstance(documents, list) or not all(isinstance(d, Document) for d in documents):
            raise InputTypeError("documents must be a list of Documents")
        return [self._text_of(document) for document in documents]

    def _text_of(self, document: Document) -> str:
        values = [document.meta.get(name) for name in self.meta_fields_to_embed or ()]
        parts = [str(value) for value in values if value is not None]
        joined = self.embedding_separator.join([*parts, document.content or ""])
        return f"{self.prefix}{joined}{self.suffix}"


def _answer(result: EmbedResult) -> dict[str, Any]:
    meta = {**_costs(result), "truncated": bool(result.truncated)}
    return {"embedding": to_lists(result)[0], "meta": meta}


def _answers(documents: list[Document], result: EmbedResult) -> dict[str, Any]:
    embedded = [
        replace(document, embedding=embedding)
        for document, embedding in zip(documents, to_lists(result), strict=True)
    ]
    meta = {**_costs(result), "truncated": [documents[i].id for i in result.truncated]}
    return {"documents": embedded, "meta": meta}


def _costs(result: EmbedResult) -> dict[str, Any]:
    tokens = int(result.tokens.sum())
    return {"model": result.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
