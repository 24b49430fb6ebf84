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
    "optimum.utils",
    "onnxruntime.quantization",
)


@contextlib.contextmanager
def muted(*, verbose: bool = False) -> Iterator[None]:
    """Hides what the libraries log. Imports them all.

    Args:
        verbose: Show it all the same.
    """
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
        for name in _NOISY_IMPORTS:
            importlib.import_module(name)
        with contextlib.ExitStack() as stack:
            if not verbose:
                stack.enter_context(_without_bars())
            for name in () if verbose else ("", *_LOGGERS):
                stack.enter_context(_silent(logging.getLogger(name)))
            yield


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Hides how far transformers is with loading weights, not how far a download is."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as bars

    were_shown, downloads_are_shown = (
        bars.is_progress_bar_enabled(),
        not are_progress_bars_disabled(),
    )
    bars.disable_progress_bar()  # those of the hub, too
    if downloads_are_shown:
        enable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            bars.enable_progress_bar()


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    handlers, propagate = logger.handlers[:], logger.propagate
    logger.handlers[:] = [logging.NullHandler()]
    logger.propagate = False
    try:
        yield
    finally:
        logger.handlers[:] = handlers
        logger.propagate = propagate
