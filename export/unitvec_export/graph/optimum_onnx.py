"""Transformer -> ONNX by optimum-onnx at transformers 4: the extra `export-optimum`."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

_TASK = "feature-extraction"
_AXES = {0: "batch_size", 1: "sequence_length"}


def is_needed() -> bool:
    """Whether transformers 4 is installed. optimum-onnx alone may be left over beside 5."""
    return importlib.metadata.version("transformers").startswith("4.")


def trace(transformer: Any, path: Path, *, opset: int) -> None:
    """Writes a graph from input_ids and attention_mask (B, S) to token vectors (B, S, H).

    It may take token_type_ids, too, and have further outputs.

    Args:
        transformer: A `transformers` model in evaluation mode.
        path: The file to write, named as optimum names it: `model.onnx`.
        opset: Version of ONNX's operator set.
    """
    from optimum.exporters.onnx import onnx_export_from_model

    onnx_export_from_model(
        transformer,
        path.parent,
        opset=opset,
        task=_TASK,
        monolith=True,
        custom_onnx_configs={"model": _onnx_config(transformer)},
        do_validation=False,  # ours compares whole vectors on real texts
        device="cpu",
    )


def _onnx_config(transformer: Any) -> Any:
    """How optimum traces a model: as it does by itself, but with inputs that any model takes."""
    from optimum.exporters.onnx.config import TextEncoderOnnxConfig, TextSeq2SeqOnnxConfig
    from optimum.exporters.tasks import TasksManager
    from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig

    class ZeroTokenTypes(DummyTextInputGenerator):  # type: ignore[misc]
        """Example inputs for models that have one token type only, too."""

        def generate(self, input_name: str, **options: Any) -> Any:
            ids = super().generate(input_name, **options)
            return ids * 0 if input_name == "token_type_ids" else ids

    class Encoder(TextEncoderOnnxConfig):  # type: ignore[misc]
        """The encoder of a model that has, or once had, a decoder."""

        NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
        inputs = dict.fromkeys(("input_ids", "attention_mask"), _AXES)
        outputs = dict.fromkeys(("last_hidden_state",), _AXES)

    make = TasksManager.get_exporter_config_constructor(
        "onnx", transformer, task=_TASK, library_name="transformers"
    )
    config = make(transformer.config)
    if isinstance(config, TextSeq2SeqOnnxConfig):
        config = Encoder(transformer.config, task=_TASK)
    config.DUMMY_INPUT_GENERATOR_CLASSES = tuple(
        ZeroTokenTypes if issubclass(ZeroTokenTypes, generator) else generator
        for generator in config.DUMMY_INPUT_GENERATOR_CLASSES
    )
    return config
