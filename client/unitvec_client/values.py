"""Values that callers give, checked, and taken over in Python's own types.

A whole number is whatever has `__index__`, as for a list's index: numpy's integers, of which a
grid search over `numpy.arange` is made, too. A bool is no number.
"""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

import numpy as np

from unitvec_client.errors import InputError, InputTypeError

_MAX_UINT32 = 2**32 - 1


def check_type(name: str, value: object, kinds: tuple[type, ...]) -> None:
    """Raise InputTypeError unless the value is of one of these types; a bool is no number."""
    if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds):
        return
    expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
    raise InputTypeError(f"{name} must be {expected}, not {type(value).__name__}")


def check_choice(name: str, value: object, choices: dict[str, Any]) -> None:
    """Raise InputError unless the value is one of these names."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def read_flag(name: str, value: object) -> bool:
    """Return a bool, which may come as numpy's.

    Raises:
        InputTypeError: If it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputTypeError(f"{name} must be bool, not {type(value).__name__}")
    return bool(value)


def read_count(name: str, value: object) -> int:
    """Return a number of at least 1, which may come as any whole number, such as numpy's.

    Raises:
        InputTypeError: If it is no whole number.
        InputError: If it is less than 1, or larger than the contract has room for.
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        count = operator.index(value)  # type: ignore[arg-type]  # refused by the call itself
    except TypeError:
        raise InputTypeError(f"{name} must be int, not {type(value).__name__}") from None
    if count < 1:
        raise InputError(f"{name} must be at least 1, not {count}")
    if count > _MAX_UINT32:
        raise InputError(f"{name} must be at most {_MAX_UINT32:,}, not {count:,}")
    return count


def read_text(name: str, value: object) -> str:
    """Return a str, which may come as numpy's.

    Raises:
        InputTypeError: If it is none.
    """
    check_type(name, value, (str,))
    return str(value)


def read_seconds(name: str, value: object) -> float:
    """Return a time in seconds, which may come as any real number, such as numpy's.

    Raises:
        InputTypeError: If it is no real number.
        InputError: If it is not positive and finite.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputTypeError(f"{name} must be int or float, not {type(value).__name__}")
    seconds = float(value)
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"{name} must be positive, not {value}")
    return seconds
