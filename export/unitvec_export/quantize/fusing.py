"""A model and its traced body -> graphs of the fused operator, or why there are none."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import cast

import onnx

from unitvec_export.errors import InputError
from unitvec_export.graph.architecture import Encoder, UnsupportedEncoder, read_encoder
from unitvec_export.graph.weights import WeightStore
from unitvec_export.graph.wiring import Wiring
from unitvec_export.prove.model import Model
from unitvec_export.quantize.fused import INTEGERS, FusedPrecision, check_supported, to_fused
from unitvec_export.quantize.products import Floats, find_products, measure_activations
from unitvec_server.model.kernels import find_kernels


class Fusing:
    """Makes fused graphs of one model.

    Args:
        model: The model.
        body: Its traced fp32 body.
        token_ids: Texts to measure activations on.
        store: Where weights of more than 2 GiB go; None for a model of less.
    """

    def __init__(
        self,
        model: Model,
        body: onnx.ModelProto,
        token_ids: Sequence[Sequence[int]],
        *,
        store: WeightStore | None = None,
    ) -> None:
        self._store = store
        self._facts = model.facts
        self._model = model
        self._body = body
        self._token_ids = token_ids

    @functools.cached_property
    def obstacle(self) -> str:
        """Why no graph can be made, in a few words; empty if one can."""
        kernels = find_kernels()
        if kernels.library is None:
            return kernels.reason
        try:
            check_supported(self._encoder, self._facts)
            self._check_products()
        except UnsupportedEncoder as exc:
            return f"the fused operator does not run this model: {exc}"
        except InputError as exc:  # an ONNX file can come without the weights that it was made of
            return str(exc)
        return ""

    def make(self, name: str) -> onnx.ModelProto:
        """The graph of this name; only where there is no obstacle."""
        precision = cast("FusedPrecision", name.removesuffix("-fused"))
        peaks = self._peaks if precision in INTEGERS else ()
        return to_fused(self._encoder, self._facts, precision, peaks, store=self._store)

    @functools.cached_property
    def _encoder(self) -> Encoder:
        return read_encoder(self._model.config, self._model.tensors)

    @functools.cached_property
    def _inputs(self) -> dict[str, int]:
        """The inputs of all products of the body, in their order, with their widths K."""
        products = find_products(Wiring(self._body))
        return {name: len(found[0].weights) for name, found in products.items()}

    def _check_products(self) -> None:
        """The body must compute what the operator does, or the peaks were those of others."""
        wanted = [len(p.weights) for layer in self._encoder.layers for p in layer.products]
        if list(self._inputs.values()) != wanted:
            raise UnsupportedEncoder("its products are not those of such an encoder")

    @functools.cached_property
    def _peaks(self) -> list[Floats]:
        measured = measure_activations(self._body, list(self._inputs), self._token_ids)
        return [measured[name].peaks for name in self._inputs]
