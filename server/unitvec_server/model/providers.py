"""Where a model runs and at which precision: what was asked for, else the best for the machine.

`auto` is lossless enough or not at all: fp16 on CUDA (cosine 0.99999 to fp32), bf16 on OpenVINO
(0.9999) where the CPU computes it in hardware, else fp32. int8 is only ever asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Set as AbstractSet
from typing import cast

from unitvec_protos.installation import install_command
from unitvec_server.errors import ProviderError
from unitvec_server.model.encoder import Provider

STATIC_INT8 = "int8-static"
"""The graph that is int8 on OpenVINO, which does not know the operators of the CPU's."""

_CUDA_PRECISIONS = ("auto", "fp16", "fp32")
_BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        providers: Those that this onnxruntime can run here.
        cpu_flags: Of the CPU, as in /proc/cpuinfo.
    """

    providers: AbstractSet[str]
    cpu_flags: AbstractSet[str]

    @property
    def has_bf16(self) -> bool:
        """Whether the CPU multiplies bfloat16. Without, OpenVINO takes 200 times as long."""
        return bool(_BF16_FLAGS & self.cpu_flags)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What runs.

    Attributes:
        provider: Execution provider.
        precision: As shown to clients.
        graph: Which graph of the artifact; bf16 is made of fp32 while it is loaded.
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
    shown, why = _choose_precision(chosen, precision, machine, graphs)
    if precision == "bf16":
        _check_bf16(chosen, machine)
    graph = {"bf16": "fp32", "int8": STATIC_INT8 if chosen == "openvino" else "int8"}
    return Choice(chosen, shown, graph.get(shown, shown), "; ".join(filter(None, (where, why))))


def choose_provider(provider: str, precision: str, *, machine: Machine) -> tuple[Provider, str]:
    """The provider, and why. It does not depend on the model: all share the workers.

    A provider that is asked for is taken, found or not: opening it says what is missing.
    """
    if provider != "auto":
        return cast("Provider", provider), "provider as configured"
    if "cuda" in machine.providers and precision in _CUDA_PRECISIONS:
        return "cuda", "a CUDA device was found"
    if precision == "bf16":
        return "openvino", "only openvino has bf16"
    if precision == "int8":
        return "cpu", "int8 graphs are made for the cpu"
    if precision != "auto":
        return "cpu", "no CUDA device"
    if "openvino" not in machine.providers:
        return "cpu", "no CUDA device, OpenVINO not installed"
    if machine.has_bf16:
        return "openvino", "no CUDA device, OpenVINO installed"
    return "cpu", "no CUDA device, OpenVINO is no faster on a CPU without bf16"


def _choose_precision(
    provider: Provider, precision: str, machine: Machine, graphs: AbstractSet[str]
) -> tuple[str, str]:
    if precision != "auto":
        return precision, "precision as configured"
    if provider == "cuda":
        if "fp16" in graphs:
            return "fp16", ""
        return "fp32", "the model was exported without fp16"
    if provider == "openvino":
        if machine.has_bf16:
            return "bf16", "this CPU has bf16"
        return "fp32", "this CPU has no bf16"
    return "fp32", ""


def _check_bf16(provider: Provider, machine: Machine) -> None:
    if provider != "openvino":
        raise ProviderError(f"--precision bf16: {provider} has none; take --provider openvino")
    if "openvino" not in machine.providers:
        command = install_command("server-openvino")
        raise ProviderError(f"--precision bf16 runs on openvino; in a fresh environment: {command}")
    if not machine.has_bf16:
        raise ProviderError(
            "--precision bf16: this CPU has neither amx_bf16 nor avx512_bf16, and would be "
            "hundreds of times slower than in fp32; take --precision fp32 or auto"
        )
