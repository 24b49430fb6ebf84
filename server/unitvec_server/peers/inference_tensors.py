"""Tensors of the Open Inference Protocol: texts and token ids in, vectors out.

A request says the shape of a tensor apart from its elements, and both come from a stranger. No
number of a shape is believed before it is held against a limit, or the elements that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unitvec_protos.inference import inference_pb2 as pb
from unitvec_server.config import ServerConfig
from unitvec_server.engine.requests import Embedded, EncodeOptions, IdsList, TextList
from unitvec_server.errors import InvalidRequest
from unitvec_server.peers.inference_models import EMBEDDING
from unitvec_server.rpc.messages import read_values

_LENGTH_BYTES = 4
"""Bytes of the length before each element of BYTES."""

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"

_FORBIDDEN = {
    "shared_memory_region": "shared memory is not read; send the elements in the message",
    "classification": "vectors are not sorted into classes",
}
"""Parameters of tensors that would change what they mean."""


class _Tensor(NamedTuple):
    """A tensor of a request: what it says of itself, and its elements in one form or the other."""

    stated: pb.ModelInferRequest.InferInputTensor
    raw: bytes | None
    field: str


def read_tensors(
    request: pb.ModelInferRequest, options: EncodeOptions, *, limits: ServerConfig
) -> TextList | IdsList:
    """Reads the texts of a request, or their token ids.

    Args:
        request: The request.
        options: How the texts become vectors.
        limits: Bounds of one request, of which some hold before a tensor is read.

    Raises:
        InvalidRequest: The tensors are not those of texts or of ids, or contradict themselves.
    """
    tensors = _pair(request)
    by_name = {tensor.stated.name: tensor for tensor in tensors}
    kinds = {tensor.stated.datatype for tensor in tensors}
    if len(tensors) == 1 and kinds == {"BYTES"}:
        texts = _read_texts(tensors[0], limits)
        return TextList(texts, options, tensors[0].field)
    is_ids = _IDS in by_name and by_name.keys() <= {_IDS, _MASK, _TYPES}
    if is_ids and len(by_name) == len(tensors) and kinds == {"INT64"}:
        return IdsList(_read_ids(by_name, limits), options, by_name[_IDS].field)
    raise _refuse(
        "send one BYTES tensor of texts, or the INT64 tensor input_ids, with attention_mask if "
        "there is padding among them",
        "inputs",
    )


def _pair(request: pb.ModelInferRequest) -> list[_Tensor]:
    """The tensors with their elements."""
    raws: Sequence[bytes | None] = request.raw_input_contents or [None] * len(request.inputs)
    if len(raws) != len(request.inputs):
        raise _refuse(
            f"there are {len(raws)} raw_input_contents for {len(request.inputs)} inputs",
            "raw_input_contents",
        )
    tensors = []
    for index, (stated, raw) in enumerate(zip(request.inputs, raws, strict=True)):
        field = f"inputs[{index}]"
        _check_parameters(stated.parameters, field)
        if raw is not None and stated.HasField("contents"):
            raise _refuse("send contents or raw_input_contents, not both", f"{field}.contents")
        tensors.append(_Tensor(stated, raw, field))
    return tensors


def _check_parameters(names: Iterable[str], field: str) -> None:
    for name in _FORBIDDEN.keys() & set(names):
        raise _refuse(_FORBIDDEN[name], f"{field}.parameters[{name}]")


def _read_texts(tensor: _Tensor, limits: ServerConfig) -> list[str]:
    shape = tensor.stated.shape
    if len(shape) not in (1, 2) or list(shape[1:]) not in ([], [1]):
        raise _refuse(f"the shape of texts is (n) or (n, 1), not {_show(shape)}", tensor.field)
    count = _check_count(shape[0], tensor, limits)
    if tensor.raw is None:
        elements: Sequence[bytes] = tensor.stated.contents.bytes_contents
    else:
        elements = _split(tensor.raw, count, tensor.field)
    _check_elements(len(elements), tensor)
    return [_decode(data, f"{tensor.field}[{index}]") for index, data in enumerate(elements)]


def _split(raw: bytes, most: int, field: str) -> list[bytes]:
    """Splits elements, each with its length before it, of which there may be so many."""
    elements: list[bytes] = []
    place = 0
    while place < len(raw) and len(elements) <= most:
        start = place + _LENGTH_BYTES
        place = start + int.from_bytes(raw[place:start], "little")
        if start > len(raw) or place > len(raw):
            raise _refuse(f"element {len(elements)} ends beyond the raw contents", field)
        elements.append(raw[start:place])
    return elements


def _decode(data: bytes, field: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise _refuse(f"{field} is not UTF-8: {exc.reason} at byte {exc.start}", field) from None


def _read_ids(tensors: dict[str, _Tensor], limits: ServerConfig) -> list[list[int]]:
    arrays = {name: _read_integers(tensor, limits) for name, tensor in tensors.items()}
    ids = arrays[_IDS]
    for name, array in arrays.items():
        if array.shape != ids.shape:
            shapes = f"{_show(array.shape)}, that of {_IDS} {_show(ids.shape)}"
            raise _refuse(f"the shape of {name} is {shapes}", tensors[name].field)
    if _TYPES in arrays and arrays[_TYPES].any():
        raise _refuse("token types other than 0 are not served", tensors[_TYPES].field)
    if _MASK not in arrays:
        return list(ids.tolist())
    mask = arrays[_MASK]
    if ((mask != 0) & (mask != 1)).any():
        raise _refuse("a mask has the values 0 and 1 only", tensors[_MASK].field)
    return [row[kept == 1].tolist() for row, kept in zip(ids, mask, strict=True)]


def _read_integers(tensor: _Tensor, limits: ServerConfig) -> npt.NDArray[np.int64]:
    shape = tensor.stated.shape
    if len(shape) != 2 or shape[1] < 0:
        raise _refuse(f"the shape of token ids is (n, S), not {_show(shape)}", tensor.field)
    rows, columns = _check_count(shape[0], tensor, limits), shape[1]
    _check_ids(rows * columns, tensor, limits)
    kind = np.dtype("<i8")
    if tensor.raw is None:
        values = tensor.stated.contents.int64_contents
        _check_elements(len(values), tensor)
        return _fold(read_values(values, kind), rows, columns)
    if len(tensor.raw) != rows * columns * kind.itemsize:
        raise _refuse(
            f"there are {len(tensor.raw)} bytes for INT64 of shape {_show(shape)}", tensor.field
        )
    return _fold(np.frombuffer(tensor.raw, kind), rows, columns)


def _fold(values: npt.NDArray[np.int64], rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Values in rows. Without any there may be more columns than numpy can count."""
    return values.reshape(rows, columns if rows else 0)


def _check_count(count: int, tensor: _Tensor, limits: ServerConfig) -> int:
    """Holds the number of texts against the limit before any element is looked at."""
    most = limits.max_texts_per_request
    if count > most:
        raise InvalidRequest(
            f"{tensor.field} has {count} texts; the limit max_texts_per_request is {most}; "
            "split the request",
            reason="TOO_MANY_TEXTS",
            field=tensor.field,
        )
    if count < 0:
        raise _refuse(f"the shape {_show(tensor.stated.shape)} is negative", tensor.field)
    return count


def _check_ids(count: int, tensor: _Tensor, limits: ServerConfig) -> None:
    """Holds the number of token ids, padding included, against what may wait at a time.

    A million of them would hold the interpreter, and with it all other calls, for a tenth of a
    second or more.
    """
    if count > limits.max_queued_tokens:
        raise InvalidRequest(
            f"{tensor.field} has {count} token ids; the limit max_queued_tokens is "
            f"{limits.max_queued_tokens}; send fewer texts at a time",
            reason="TOO_MANY_TOKENS",
            field=tensor.field,
        )


def _check_elements(count: int, tensor: _Tensor) -> None:
    shape = tensor.stated.shape
    if count != np.prod(shape, dtype=object):
        kind = tensor.stated.datatype
        raise _refuse(
            f"the elements are not as many as those of {kind} of shape {_show(shape)}",
            tensor.field,
        )


def _show(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape[:8]))})"


def _refuse(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(message, reason="WRONG_TENSOR", field=field)


def read_output_name(request: pb.ModelInferRequest) -> str:
    """Reads the name by which the caller wants the vectors.

    Raises:
        InvalidRequest: Several tensors are wanted, or something other than vectors.
    """
    if len(request.outputs) > 1:
        raise _refuse("there is one output, the vectors; name at most one", "outputs")
    for output in request.outputs:
        _check_parameters(output.parameters, "outputs[0]")
        return output.name or EMBEDDING
    return EMBEDDING


def write_vectors(response: pb.ModelInferResponse, name: str, embedded: Embedded) -> None:
    """Adds the vectors (n, D) float32, and what they cost, to a response."""
    vectors = embedded.vectors
    response.outputs.add(name=name, datatype="FP32", shape=vectors.shape)
    response.raw_output_contents.append(vectors.astype("<f4", copy=False).tobytes())
    response.parameters["total_tokens"].int64_param = sum(embedded.tokens)
    response.parameters["truncated_texts"].int64_param = len(embedded.truncated)
    response.parameters["left_out_tokens"].int64_param = sum(embedded.truncated.values())
