"""The graphs of one model: which to write, and each of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import onnx

from unitvec_export.graph.tracing import finish
from unitvec_export.graph.weights import WeightStore
from unitvec_export.prove.model import Model
from unitvec_export.prove.verification import load_sample
from unitvec_export.quantize.fp16 import to_fp16
from unitvec_export.quantize.fusing import Fusing
from unitvec_export.quantize.int8 import to_int8
from unitvec_server.model.manifest import FUSED

_TWINS = {"int8": "int8-fused"}
"""Graphs that are written beside one that was asked for, where they can be."""

# Graphs are calibrated on each so many-th text of the sample and measured on all.
_CALIBRATION_STRIDE = 2


class Graphs:
    """Makes graphs of a model.

    Args:
        body: Its traced fp32 body.
        model: The model.
        store: Where weights of more than 2 GiB go; None for a model of less.
        verbose: Show what the libraries log.
    """

    def __init__(
        self,
        body: onnx.ModelProto,
        model: Model,
        *,
        store: WeightStore | None = None,
        verbose: bool,
    ) -> None:
        self._body = body
        self._store = store
        self._model = model
        self._verbose = verbose

    @property
    def obstacle(self) -> str:
        """Why there is no fused graph, in a few words; empty if there can be one."""
        return self._fusing.obstacle

    def plan(self, asked: Sequence[str] | None) -> tuple[str, ...]:
        """Names of the graphs to write, as far as there can be such.

        Args:
            asked: Those asked for; None means fp32 and, where there is no obstacle, int16.
        """
        if asked is None:
            return ("fp32",) if self.obstacle else ("fp32", "int16")
        possible = [name for name in asked if not self.why_not(name)]
        twins = [] if self.obstacle else [_TWINS[name] for name in possible if name in _TWINS]
        return tuple(dict.fromkeys((*possible, *twins)))

    def why_not(self, name: str) -> str:
        """Why there is no graph of this name, in a few words; empty if there can be one."""
        if name in FUSED:
            return self.obstacle
        has_products = any(node.op_type == "MatMul" for node in self._body.graph.node)
        return "" if has_products or name != "int8" else "it has no products to quantize"

    def make(self, name: str) -> onnx.ModelProto:
        """The graph of this name."""
        if name in FUSED:
            return self._fusing.make(name)
        if name == "int8":
            converted = to_int8(self._body, self._calibration)
        elif name == "fp16":
            converted = to_fp16(self._body, verbose=self._verbose)
        else:
            converted = self._body
        return finish(converted, self._model.facts)

    @functools.cached_property
    def _fusing(self) -> Fusing:
        return Fusing(self._model, self._body, self._calibration, store=self._store)

    @functools.cached_property
    def _calibration(self) -> list[list[int]]:
        """Token ids of the texts that activations are measured on: those that have tokens."""
        texts = load_sample()[::_CALIBRATION_STRIDE]
        rows = self._model.token_ids(texts, prompt=self._model.facts.default_prompt)
        return [row for row in rows if row]
