"""A stand-in for `sentence_transformers.SentenceTransformer` that a server computes.

Code that has

    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer("all-MiniLM-L6-v2")

goes on as it is with

    from unitvec_client.integrations.sentence_transformer import RemoteSentenceTransformer
    model = RemoteSentenceTransformer("all-MiniLM-L6-v2", target="localhost:50051")

Needs neither torch nor sentence-transformers; torch where tensors are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import InputError
from unitvec_client.integrations.arrays import (
    EIGHT_BITS,
    PAIRWISE,
    SIMILARITIES,
    compare,
    quantize,
    shift_bits,
)
from unitvec_client.integrations.encoding import EncodeKeywords, EncodeOptions, list_texts
from unitvec_client.integrations.extras import load_torch
from unitvec_client.providers.endpoint import ConnectionKeywords, Endpoint
from unitvec_client.providers.prompts import Placement, find_prompt, place_prompt
from unitvec_client.providers.provider import Provider, TextOptions
from unitvec_client.values import check_choice, check_type, read_count

SimilarityName = Literal["cosine", "dot", "euclidean", "manhattan"]

# Names under which a `SentenceTransformer` has its tokenizer.
_TOKENIZING = ("tokenizer", "tokenize", "processor")
# Every model of sentence-transformers has these two.
_NO_PROMPTS = {"query": "", "document": ""}


class NotHereError(InputError, AttributeError):
    """The model has this, but it is on the server; `hasattr` says so too."""


class RemoteSentenceTransformer:
    """Encodes and compares as a `SentenceTransformer` does; a unitvec server computes.

    Connects at the first call. Threads may share one; it can be pickled.

    Args:
        model_name_or_path: Name of a served model, or the id it was exported from; empty for
            the server's default.
        target: ``host:port`` or any other gRPC target; None for the variable UNITVEC_TARGET, or
            localhost:50051 where it is not set.
        prompts: Prompts by name, beside those of the model.
        default_prompt_name: Used where a call names none; None for the model's own.
        similarity_fn_name: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``; None for what the
            model's own files say, which is mostly the cosine.
        truncate_dim: Keep only this many leading dimensions; None keeps all.
        device: Where tensors are put. Where the model runs, the server decides.
        **connection: As in `Endpoint`: connection, token_env_var, timeout_s, expect.

    Raises:
        InputError: If an argument is wrong.
    """

    def __init__(
        self,
        model_name_or_path: str = "",
        *,
        target: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: SimilarityName | None = None,
        truncate_dim: int | None = None,
        device: Any = None,
        **connection: Unpack[ConnectionKeywords],
    ) -> None:
        self.truncate_dim = _read_dim(truncate_dim)
        self.device = device
        self.similarity_fn_name = similarity_fn_name
        self._prompts = dict(prompts or {})
        self._default_prompt_name = default_prompt_name
        self._provider = Provider(Endpoint(target, model_name_or_path, **connection))

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,  # noqa: ARG002  # the server batches
        **options: Unpack[EncodeKeywords],
    ) -> Any:
        """Turn texts into embeddings.

        Args:
            inputs: A text, or any iterable of texts.
            prompt_name: The prompt put before each text, by name; None for the default.
            prompt: The prompt itself; wins over `prompt_name`.
            batch_size: Accepted without effect.
            **options: As in `EncodeOptions`.

        Returns:
            float32 (n, D), or (D,) for a single str; int8 or uint8 by `precision`. The same as
            a tensor by `convert_to_tensor`, as tensors one by one without `convert_to_numpy`.

        Raises:
            InputError: If an argument is wrong or not supported.
            UnitvecError: If the call fails; all or nothing.
        """
        parsed = EncodeOptions.read(options)
        inputs = parsed.sentences if inputs is None else inputs
        single = isinstance(inputs, str)
        texts = [inputs] if single else list_texts(inputs)
        check_type("prompt", prompt, (str, type(None)))
        if prompt is None:
            name = self.default_prompt_name if prompt_name is None else prompt_name
            prompt = find_prompt(self.prompts, name)
        placement = place_prompt(self._provider.model(), prompt, parsed.task)
        embeddings = self._embed(texts, placement, parsed)
        found = self._convert(embeddings, parsed)
        return found[0] if single else found

    def encode_query(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        **options: Unpack[EncodeKeywords],
    ) -> Any:
        """`encode` with the prompt ``query``, which may be empty, if none is named."""
        if prompt is None and prompt_name is None:
            prompt_name = "query"
        options["task"] = "query"
        return self.encode(inputs, prompt_name, prompt, batch_size, **options)

    def encode_document(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        **options: Unpack[EncodeKeywords],
    ) -> Any:
        """`encode` with the prompt ``document``, which may be empty, if none is named.

        As in sentence-transformers, a prompt ``passage`` or ``corpus`` must be named: the prompt
        ``document``, which each model has, is found before them.
        """
        if prompt is None and prompt_name is None:
            prompt_name = "document"
        options["task"] = "document"
        return self.encode(inputs, prompt_name, prompt, batch_size, **options)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare every embedding with every other one, by `similarity_fn_name`.

        Args:
            embeddings1: (n, D) or (D,), array or tensor.
            embeddings2: (m, D) or (D,), array or tensor.

        Returns:
            float32 (n, m), distances negative: more is closer. A tensor if one of the two is
            (sentence-transformers always returns one), else an array.
        """
        measure = SIMILARITIES[self.similarity_fn_name]
        return compare(lambda a, b: measure(*np.atleast_2d(a, b)), embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare embeddings pair by pair: float32 (n,); see `similarity`.

        Args:
            embeddings1: (n, D), array or tensor.
            embeddings2: (n, D), array or tensor.
        """
        return compare(PAIRWISE[self.similarity_fn_name], embeddings1, embeddings2)

    @property
    def similarity_fn_name(self) -> SimilarityName:
        """How `similarity` and `similarity_pairwise` compare."""
        name = self._similarity_fn_name or self._provider.model().similarity_fn_name
        return cast("SimilarityName", name)

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: SimilarityName | None) -> None:
        if value is not None:
            check_choice("similarity_fn_name", value, SIMILARITIES)
        self._similarity_fn_name = value

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by name: the model's, and those of the constructor."""
        return {**_NO_PROMPTS, **self._provider.model().prompts, **self._prompts}

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt used where a call names none; None if there is none."""
        return self._default_prompt_name or self._provider.model().default_prompt_name or None

    @property
    def max_seq_length(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self._provider.model().max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        """Take the server's own bound; the server cuts texts, so that no other can be had."""
        bound = self._provider.model().max_seq_length
        if read_count("max_seq_length", value) != bound:
            raise InputError(
                f"max_seq_length is {bound}, at which the server cuts texts, and cannot be {value} "
                "here: export the model with that max_seq_length, and serve it"
            )

    def get_max_seq_length(self) -> int:
        """Return `max_seq_length`."""
        return self.max_seq_length

    def get_embedding_dimension(self) -> int:
        """Return the dimension of what `encode` returns."""
        dim = self._provider.model().dim
        return min(dim, _read_dim(self.truncate_dim) or dim)

    def get_sentence_embedding_dimension(self) -> int:
        """Return `get_embedding_dimension`, by its former name."""
        message = "get_sentence_embedding_dimension is now called get_embedding_dimension"
        warnings.warn(message, FutureWarning, stacklevel=2)
        return self.get_embedding_dimension()

    def to(self, device: Any) -> Self:
        """Put tensors there from now on; where the model runs, the server decides."""
        self.device = device
        return self

    def eval(self) -> Self:
        """Return the model: it is never trained."""
        return self

    def close(self) -> None:
        """Close the connection. A later call opens it again."""
        self._provider.close()

    def __repr__(self) -> str:
        endpoint = self._provider.endpoint
        return f"RemoteSentenceTransformer({endpoint.model!r}, target={endpoint.target!r})"

    if not TYPE_CHECKING:  # Checkers are to find misspelt attributes, as of any class.

        def __getattr__(self, name: str) -> NoReturn:
            """Name what a `SentenceTransformer` has and a server keeps to itself."""
            hint = "; Client.tokenize shows the tokens of texts" if name in _TOKENIZING else ""
            message = f"RemoteSentenceTransformer has no {name}: the model is on the server{hint}"
            raise NotHereError(message)

    def _embed(
        self, texts: list[str], placement: Placement, options: EncodeOptions
    ) -> NDArray[Any]:
        options.check_count(len(texts))
        bits = options.precision in ("binary", "ubinary")
        dimensions = options.truncate_dim or _read_dim(self.truncate_dim)
        embeddings: NDArray[Any] = self._provider.embed(
            [placement.prefix + text for text in texts],
            TextOptions(
                prompt_name=placement.name,
                normalize=options.normalize_embeddings,
                own_norm=False,
                dimensions=dimensions and min(dimensions, self._provider.model().dim),
                dtype="binary" if bits else "float32",
            ),
        ).values()
        if options.precision == "binary":
            return shift_bits(embeddings)
        if options.precision in EIGHT_BITS:
            return quantize(embeddings, EIGHT_BITS[options.precision])
        return embeddings

    def _convert(self, embeddings: NDArray[Any], options: EncodeOptions) -> Any:
        if options.convert_to_numpy and not options.convert_to_tensor:
            return embeddings
        device = options.device or self.device
        tensor = load_torch().from_numpy(embeddings)
        tensor = tensor if device is None else tensor.to(device)
        return tensor if options.convert_to_tensor else list(tensor)


def _read_dim(value: int | None) -> int | None:
    return None if value is None else read_count("truncate_dim", value)
