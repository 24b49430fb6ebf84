"""Keeps the libraries' warnings and progress bars off the terminal."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator

_LIBRARIES = ("huggingface_hub", "onnxruntime", "optimum", "sentence_transformers", "transformers")
_LOGGERS = (*_LIBRARIES, "torch")
# Importing these makes all of the above install their log handlers, which are then replaced.
_NOISY_IMPORTS = (
    "sentence_transformers",
    "optimum.exporters.onnx.convert",
    "onnxruntime.quantization",
)


class _Collector(logging.Handler):
    """Keeps the messages it is given."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def muted(*, verbose: bool = False) -> Iterator[list[str]]:
    """Collects what the libraries log instead of showing it. Imports them all.

    Args:
        verbose: Show it as well.

    Yields:
        The messages logged so far, warnings and worse.
    """
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
        for name in _NOISY_IMPORTS:
            importlib.import_module(name)
        collector = _Collector()
        with contextlib.ExitStack() as stack:
            for name in ("", *_LOGGERS):
                stack.enter_context(_collecting(logging.getLogger(name), collector, verbose))
            yield collector.messages


@contextlib.contextmanager
def _collecting(
    logger: logging.Logger, collector: logging.Handler, verbose: bool
) -> Iterator[None]:
    handlers, propagate = logger.handlers[:], logger.propagate
    logger.handlers[:] = [collector, *(handlers if verbose else ())]
    logger.propagate = verbose and propagate
    try:
        yield
    finally:
        logger.handlers[:] = handlers
        logger.propagate = propagate
