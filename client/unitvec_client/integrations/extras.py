"""What is not installed with the client alone."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from unitvec_protos.installation import install_command


def missing(extra: str, exc: ImportError) -> ImportError:
    """Return the error for a framework that is not installed.

    Args:
        extra: The extra of this package that brings it.
        exc: What its import raised.
    """
    message = f"{exc.name or extra} cannot be imported: {install_command(extra)}"
    return ImportError(message, name=exc.name, path=exc.path)


def load_torch() -> ModuleType:
    """Return torch, which only callers who ask for tensors need.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return import_module("torch")
    except ImportError as exc:
        message = "tensors need torch: pip install torch, or ask for numpy arrays"
        raise ImportError(message, name=exc.name, path=exc.path) from exc
