"""Where a model runs and at which precision: what was asked for, else the best for the machine.

`auto` is lossless enough or not at all: fp16 on CUDA (cosine 0.99999 to fp32); int16 with the fused
operator (0.999999) where it runs; else fp32. bf16 and int8 are only ever asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import cast

from unitvec_server.errors import ProviderError
from unitvec_server.model.encoder import Provider
from unitvec_server.model.kernels import NO_KERNELS, Kernels

FUSED_INT8 = "int8-fused"
"""The graph that is int8 with the fused operator."""

_CUDA_PRECISIONS = ("auto", "fp16", "fp32")
_FUSED_ONLY = ("int16", "bf16")
"""What no plain graph has."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        providers: Those that this onnxruntime can run here.
        kernels: The fused operator.
    """

    providers: AbstractSet[str]
    kernels: Kernels = NO_KERNELS


@dataclasses.dataclass(frozen=True)
class Choice:
    """What runs.

    Attributes:
        provider: Execution provider.
        precision: As shown to clients.
        graph: Which graph of the artifact; int8 has one for each way to run it.
        reason: Why, in a few words.
    """

    provider: Provider
    precision: str
    graph: str
    reason: str


def choose(provider: str, precision: str, *, machine: Machine, graphs: AbstractSet[str]) -> Choice:
    """Decides.

    Args:
        provider: As asked for, or ``auto``.
        precision: As asked for, or ``auto``.
        machine: What was found.
        graphs: Precisions that the artifact has.

    Raises:
        ProviderError: The provider cannot run here at this precision.
    """
    chosen, where = choose_provider(provider, precision, machine=machine)
    shown, why = _choose_precision(chosen, precision, machine.kernels, graphs)
    if precision in _FUSED_ONLY:
        _check_fused(chosen, precision, machine.kernels)
    graph, how = _choose_graph(chosen, shown, machine.kernels, graphs)
    return Choice(chosen, shown, graph, "; ".join(filter(None, (where, why, how))))


def choose_for_routes(
    provider: str, precision: str, *, machine: Machine, graphs: Mapping[str, AbstractSet[str]]
) -> dict[str, Choice]:
    """Decides for a model and its routes, which share provider and workers.

    A route that has no graph at a precision that another has runs in fp32. Export leaves out what
    cannot be: a table of static embeddings has no products to quantize.

    Args:
        provider: As asked for, or ``auto``.
        precision: As asked for, or ``auto``.
        machine: What was found.
        graphs: Precisions that each has, by the name of its folder.

    Raises:
        ProviderError: The provider cannot run here at this precision.
    """
    choices = {
        folder: choose(provider, precision, machine=machine, graphs=own)
        for folder, own in graphs.items()
    }
    found = {folder for folder, choice in choices.items() if choice.graph in graphs[folder]}
    return {
        folder: choice if folder in found or not found else _in_fp32(choice)
        for folder, choice in choices.items()
    }


def _in_fp32(choice: Choice) -> Choice:
    reason = f"this route was exported without {choice.precision}"
    return dataclasses.replace(choice, precision="fp32", graph="fp32", reason=reason)


def choose_provider(provider: str, precision: str, *, machine: Machine) -> tuple[Provider, str]:
    """The provider, and why. It does not depend on the model: all share the workers.

    A provider that is asked for is taken, found or not: opening it says what is missing.
    """
    if provider != "auto":
        return cast("Provider", provider), "provider as configured"
    if "cuda" in machine.providers and precision in _CUDA_PRECISIONS:
        return "cuda", "a CUDA device was found"
    if precision in ("int8", *_FUSED_ONLY):
        return "cpu", f"{precision} graphs are made for the cpu"
    return "cpu", "no CUDA device"


def _choose_precision(
    provider: Provider, precision: str, kernels: Kernels, graphs: AbstractSet[str]
) -> tuple[str, str]:
    if precision != "auto":
        return precision, "precision as configured"
    if provider == "cuda":
        if "fp16" in graphs:
            return "fp16", ""
        return "fp32", "the model was exported without fp16"
    if kernels.library is None:
        return "fp32", f"plain graph: {kernels.reason}"
    if "int16" not in graphs:
        return "fp32", "plain graph: the model was exported without int16"
    return "int16", ""


def _choose_graph(
    provider: Provider, shown: str, kernels: Kernels, graphs: AbstractSet[str]
) -> tuple[str, str]:
    """The graph that has this precision with this provider, and why that one."""
    if shown in _FUSED_ONLY:
        return shown, f"fused operator on {kernels.backend}"
    if shown != "int8" or provider != "cpu":
        return shown, ""
    if kernels.library is None:
        return shown, f"plain graph: {kernels.reason}"
    if FUSED_INT8 not in graphs:
        return shown, "plain graph: the model was exported without the fused one"
    return FUSED_INT8, f"fused operator on {kernels.backend}"


def _check_fused(provider: Provider, precision: str, kernels: Kernels) -> None:
    if provider != "cpu":
        raise ProviderError(f"--precision {precision}: {provider} has none; take --provider cpu")
    if kernels.library is None:
        raise ProviderError(
            f"--precision {precision} needs the fused operator, and {kernels.reason}; "
            "take --precision fp32 or auto"
        )
