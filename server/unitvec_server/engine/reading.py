"""What a request asks for, held against the model and the limits before any work is done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unitvec_server.engine.checks import Failures, check_ids, check_texts
from unitvec_server.engine.identity import check_expected
from unitvec_server.engine.parts import Part
from unitvec_server.engine.prompts import Prompt, find_prompt
from unitvec_server.engine.requests import IdsList, Limits, Model, TextList
from unitvec_server.engine.windowing import read_windows
from unitvec_server.errors import InvalidRequest
from unitvec_server.vectors.packing import shape_embeddings


def read_part(model: Model, wanted: TextList | IdsList, limits: Limits) -> Part:
    """Holds a list of texts and its options against the model and the limits.

    Raises:
        RequestError: They do not fit, or the model is not the one that is expected. Texts of a
            partial list that do not fit fail alone.
    """
    options = wanted.options
    check_expected(model, options.expected, field="options")
    prompt = find_prompt(model, options.prompt_name)
    if options.route_only:
        prompt = Prompt("", prompt.model)
    failures: Failures | None = {} if wanted.is_partial else None
    sizes_bytes = _check_sizes(prompt.model, wanted, limits, failures)
    if options.dimensions:  # an empty matrix shows whether a full one could be shaped
        empty = np.empty((0, model.manifest.dim), np.float32)
        shape_embeddings(empty, normalize=False, dimensions=options.dimensions)
    if options.windows and isinstance(wanted, IdsList):
        raise InvalidRequest(
            "windows are cut out of texts, and these are token ids; send the texts",
            field="options.windows",
        )
    indices: Sequence[int] = range(len(sizes_bytes))
    if failures:
        indices = [index for index in indices if index not in failures]
    prompt_bytes = len(prompt.text.encode())
    return Part(
        wanted,
        *(prompt.model, prompt.text, prompt.unpooled_tokens),
        [prompt_bytes + sizes_bytes[index] for index in indices],
        indices,
        failures or {},
        windows=read_windows(prompt.model, options, prompt=prompt.text, limits=limits),
    )


def _check_sizes(
    model: Model, wanted: TextList | IdsList, limits: Limits, failures: Failures | None
) -> list[int]:
    """Size in bytes of each text, those that fail alone included."""
    if isinstance(wanted, TextList):
        return check_texts(wanted.texts, field=wanted.field, limits=limits, failures=failures)
    return check_ids(
        wanted.ids,
        field=wanted.field,
        limits=limits,
        vocabulary_size=model.tokenizer.vocabulary_size,
        failures=failures,
    )
