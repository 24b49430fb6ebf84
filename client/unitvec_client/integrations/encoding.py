"""What `RemoteSentenceTransformer.encode` may be asked for, by sentence-transformers' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

from unitvec_client.core.inputs import check_texts, in_python, refuse_table
from unitvec_client.errors import InputError, InputTypeError
from unitvec_client.integrations.arrays import EIGHT_BITS
from unitvec_client.values import check_choice, read_count

PrecisionName = Literal["float32", "int8", "uint8", "binary", "ubinary"]

_PRECISIONS = dict.fromkeys(("float32", "int8", "uint8", "binary", "ubinary"))


class EncodeKeywords(TypedDict, total=False):
    """Keywords of `encode`; see `EncodeOptions`."""

    show_progress_bar: bool | None
    output_value: Literal["sentence_embedding"]
    precision: PrecisionName | None
    convert_to_numpy: bool
    convert_to_tensor: bool
    device: Any
    normalize_embeddings: bool
    truncate_dim: int | None
    pool: None
    chunk_size: int | None
    task: str | None
    sentences: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """Options of `encode`, by the names that sentence-transformers gives them.

    Attributes:
        show_progress_bar: Accepted; none is shown.
        output_value: ``sentence_embedding``; a server has no embeddings of tokens.
        precision: ``float32``; ``int8`` or ``uint8``, on a scale over the texts of this call,
            of which there must be several;
            ``binary`` or ``ubinary``, packed sign bits.
        convert_to_numpy: False returns a list of tensors.
        convert_to_tensor: Return one tensor; wins over convert_to_numpy.
        device: Where tensors are put. Where the model runs, the server decides.
        normalize_embeddings: Scale to unit L2 norm, as some models, all-MiniLM-L6-v2 for one,
            always do.
        truncate_dim: Keep only this many leading dimensions; None for those of the constructor.
        pool: None; the server does the work.
        chunk_size: Accepted without effect.
        task: Route of a model that has several; one whose prompt is not empty is taken with this
            prompt alone.
        sentences: The former name of `inputs`.

    Raises:
        InputError: If a value is not valid or not supported.
    """

    show_progress_bar: bool | None = None
    output_value: str = "sentence_embedding"
    precision: PrecisionName | None = "float32"
    convert_to_numpy: bool = True
    convert_to_tensor: bool = False
    device: Any = None
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    pool: None = None
    chunk_size: int | None = None
    task: str | None = None
    sentences: Any = None

    def __post_init__(self) -> None:
        if self.precision is None:  # as sentence-transformers takes it
            object.__setattr__(self, "precision", "float32")
        check_choice("precision", self.precision, _PRECISIONS)
        if self.truncate_dim is not None:
            object.__setattr__(self, "truncate_dim", read_count("truncate_dim", self.truncate_dim))
        if self.output_value != "sentence_embedding":
            raise InputError("only output_value='sentence_embedding' can be had of a server")
        if self.pool is not None:
            raise InputError("pool is not supported: the server does the work; leave it out")

    def check_count(self, texts: int) -> None:
        """Check that so many texts can be encoded at this precision.

        Raises:
            InputError: If it takes the range of each dimension, which one text has not.
        """
        if texts == 1 and self.precision in EIGHT_BITS:
            raise InputError(
                f"precision={self.precision!r} spreads its codes over the range of each dimension "
                "among the texts of the call, and one text has none: encode several at once, "
                "or use Client.embed(..., dtype='int8'), which has a scale for each vector"
            )

    @classmethod
    def read(cls, keywords: EncodeKeywords) -> Self:
        """Return the options that a method was given.

        Raises:
            InputTypeError: If one of them is unknown.
            InputError: If a value is not valid or not supported.
        """
        unknown = sorted(set(keywords) - set(cls.__dataclass_fields__))
        if unknown:
            expected = ", ".join(sorted(cls.__dataclass_fields__))
            raise InputTypeError(f"unknown option {unknown[0]!r}; expected {expected}")
        return cls(**keywords)


def list_texts(inputs: Any) -> list[str]:
    """Return the texts of an iterable, such as a list, an array or a column of a data set.

    Raises:
        InputTypeError: If it is none, or what it holds are no texts.
    """
    refuse_table(inputs, "inputs")
    if inputs is None or isinstance(inputs, bytes) or not hasattr(inputs, "__iter__"):
        raise InputTypeError(f"inputs must be a str or texts, not {type(inputs).__name__}")
    return check_texts(list(in_python(inputs)), "inputs")
