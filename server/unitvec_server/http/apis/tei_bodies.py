"""The bodies of text-embeddings-inference's HTTP API."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec

from unitvec_server.http.inputs import KINDS, Dimensions, Id, Input, Texts, described

Side = Literal["Right", "Left", "right", "left"]


class EmbedRequest(msgspec.Struct):
    """The body of ``/embed``. Too long texts are cut, unless `truncate` is false."""

    inputs: Input
    truncate: bool | None = None
    truncation_direction: Side | None = None
    prompt_name: str | None = None
    normalize: bool | None = None
    dimensions: Dimensions | None = None


class SimilarityInputs(msgspec.Struct):
    """A sentence and those that it is compared with."""

    source_sentence: str
    sentences: Texts


class SimilarityParameters(msgspec.Struct):
    """How the sentences become vectors."""

    truncate: bool | None = None
    truncation_direction: Side | None = None
    prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct):
    """The body of ``/similarity``."""

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None


class TokenizeRequest(msgspec.Struct):
    """The body of ``/tokenize``."""

    inputs: str | Texts
    add_special_tokens: bool | None = None
    prompt_name: str | None = None


class Token(msgspec.Struct):
    """A token; `start` and `stop` are bytes of the text with its prompt."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DecodeRequest(msgspec.Struct):
    """The body of ``/decode``."""

    ids: Annotated[list[Id | list[Id]], described(minItems=1, anyOf=KINDS)]
    skip_special_tokens: bool | None = None


class RootRequest(msgspec.Struct):
    """What a body of ``/`` begins with: of ``/embed``, or of ``/similarity``."""

    inputs: Any


class TeiError(TypedDict):
    """An error as TEI writes it."""

    error: str
    error_type: str
