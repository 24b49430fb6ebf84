"""Parameters of a ModelInferRequest, read into options and a deadline."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TypeVar

from unitvec_protos.inference import inference_pb2 as pb
from unitvec_server.engine.requests import EncodeOptions
from unitvec_server.errors import InvalidRequest
from unitvec_server.model.tokenizer import Truncation

_T = TypeVar("_T", bool, int, str)

_Parameters = Mapping[str, pb.InferParameter]

_OURS = ("normalize", "dimensions", "prompt_name", "truncate", "timeout")

_UNREAD = ("priority", "binary_data_output")
_UNREAD_PREFIXES = ("sequence_", "triton_")
"""Parameters of Triton without a meaning here, which its clients send unasked."""

_SIDES = {"end": Truncation.END, "start": Truncation.START, "error": None}


def read_options(parameters: _Parameters) -> EncodeOptions:
    """Reads how texts become vectors, with the defaults of our own contract.

    Raises:
        InvalidRequest: A parameter is unknown, or has a value that it cannot have.
    """
    for name in parameters:
        if name not in (*_OURS, *_UNREAD) and not name.startswith(_UNREAD_PREFIXES):
            raise _refuse(name, f"is unknown; there are {', '.join(_OURS)}")
    truncate = (_read(parameters, "truncate", str) or "").lower()
    if truncate and truncate not in _SIDES:
        raise _refuse("truncate", f"is one of {', '.join(_SIDES)}")
    normalize = _read(parameters, "normalize", bool)
    return EncodeOptions(
        normalize=normalize is not False,
        dimensions=_read_count(parameters, "dimensions"),
        prompt_name=_read(parameters, "prompt_name", str),
        side=_SIDES.get(truncate),
        refuses_long=truncate == "error",
    )


def read_deadline_s(parameters: _Parameters) -> float:
    """Reads when the vectors are worth nothing, on the monotonic clock.

    Raises:
        InvalidRequest: The parameter has a value that it cannot have.
    """
    timeout_us = _read_count(parameters, "timeout")
    return time.monotonic() + timeout_us * 1e-6 if timeout_us else math.inf


def _read_count(parameters: _Parameters, name: str) -> int:
    count = _read(parameters, name, int) or 0
    if count < 0:
        raise _refuse(name, "is not negative")
    return count


def _read(parameters: _Parameters, name: str, kind: type[_T]) -> _T | None:
    """The value of a parameter, which must be of this type; None where it is not given."""
    if name not in parameters:
        return None
    field = parameters[name].WhichOneof("parameter_choice")
    value = getattr(parameters[name], field) if field else None
    if type(value) is not kind:
        names = {bool: "a bool", int: "an int64 or uint64", str: "a string"}
        raise _refuse(name, f"is {names[kind]}")
    return value


def _refuse(name: str, advice: str) -> InvalidRequest:
    return InvalidRequest(
        f"the parameter {name[:100]!r} {advice}",
        reason="INVALID_PARAMETER",
        field=f"parameters[{name[:100]}]",
    )
