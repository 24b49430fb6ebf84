"""Provider and precision, as a table over machines."""

from __future__ import annotations

import itertools
import re

import pytest

from unitvec_protos.installation import install_command
from unitvec_server.config import PRECISIONS, PROVIDERS
from unitvec_server.errors import ProviderError
from unitvec_server.model.providers import Machine, choose

PLAIN = Machine({"cpu"}, {"avx512f", "avx512_vnni"})
AMX = Machine({"cpu"}, {"avx512f", "avx512_bf16", "amx_bf16"})
OPENVINO = Machine({"cpu", "openvino"}, {"avx512f", "avx512_vnni"})
OPENVINO_AMX = Machine({"cpu", "openvino"}, {"amx_bf16"})
OPENVINO_BF16 = Machine({"cpu", "openvino"}, {"avx512_bf16"})
CUDA = Machine({"cpu", "cuda"}, {"amx_bf16"})
MACHINES = (PLAIN, AMX, OPENVINO, OPENVINO_AMX, OPENVINO_BF16, CUDA)
ALL = frozenset({"fp32", "int8", "int8-static", "fp16"})


OPENVINO_COMMAND = re.escape(install_command("server-openvino"))


@pytest.mark.parametrize(
    ("machine", "asked", "given", "why"),
    [
        (PLAIN, "auto auto", "cpu fp32 fp32", "no CUDA device, OpenVINO not installed"),
        (AMX, "auto auto", "cpu fp32 fp32", "no CUDA device, OpenVINO not installed"),
        (OPENVINO, "auto auto", "cpu fp32 fp32", "no faster on a CPU without bf16"),
        (OPENVINO_AMX, "auto auto", "openvino bf16 fp32", "OpenVINO installed; this CPU has bf16"),
        (OPENVINO_BF16, "auto auto", "openvino bf16 fp32", "this CPU has bf16"),
        (CUDA, "auto auto", "cuda fp16 fp16", "a CUDA device was found"),
        (OPENVINO, "openvino auto", "openvino fp32 fp32", "this CPU has no bf16"),
        (OPENVINO, "openvino int8", "openvino int8 int8-static", "as configured"),
        (OPENVINO_AMX, "cpu auto", "cpu fp32 fp32", "provider as configured"),
        (OPENVINO_AMX, "auto bf16", "openvino bf16 fp32", "only openvino has bf16"),
        (OPENVINO_AMX, "auto int8", "cpu int8 int8", "int8 graphs are made for the cpu"),
        (CUDA, "auto int8", "cpu int8 int8", "int8 graphs are made for the cpu"),
        (CUDA, "auto fp32", "cuda fp32 fp32", "a CUDA device was found"),
        (CUDA, "cpu auto", "cpu fp32 fp32", "provider as configured"),
        (PLAIN, "cuda auto", "cuda fp16 fp16", "provider as configured"),
        (PLAIN, "auto fp16", "cpu fp16 fp16", "no CUDA device"),
    ],
)
def test_choice(machine: Machine, asked: str, given: str, why: str) -> None:
    provider, precision = asked.split()
    choice = choose(provider, precision, machine=machine, graphs=ALL)
    assert f"{choice.provider} {choice.precision} {choice.graph}" == given
    assert why in choice.reason
    assert "\n" not in choice.reason


def test_fp16_only_where_it_was_exported() -> None:
    choice = choose("auto", "auto", machine=CUDA, graphs=frozenset({"fp32"}))
    assert (choice.provider, choice.precision) == ("cuda", "fp32")
    assert "exported without fp16" in choice.reason


@pytest.mark.parametrize(
    ("machine", "asked", "message"),
    [
        (PLAIN, "cpu bf16", r"cpu has none; take --provider openvino"),
        (CUDA, "cuda bf16", r"cuda has none; take --provider openvino"),
        (AMX, "auto bf16", f"in a fresh environment: {OPENVINO_COMMAND}"),
        (AMX, "openvino bf16", OPENVINO_COMMAND),
        (OPENVINO, "openvino bf16", "neither amx_bf16 nor avx512_bf16"),
        (OPENVINO, "auto bf16", "take --precision fp32 or auto"),
    ],
)
def test_refused(machine: Machine, asked: str, message: str) -> None:
    provider, precision = asked.split()
    with pytest.raises(ProviderError, match=message):
        choose(provider, precision, machine=machine, graphs=ALL)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_int8_is_never_chosen_silently(machine: Machine, provider: str) -> None:
    choice = choose(provider, "auto", machine=machine, graphs=ALL)
    assert "int8" not in choice.precision + choice.graph


@pytest.mark.parametrize(("provider", "precision"), list(itertools.product(PROVIDERS, PRECISIONS)))
def test_what_is_asked_for_is_given_or_refused(provider: str, precision: str) -> None:
    for machine in MACHINES:
        try:
            choice = choose(provider, precision, machine=machine, graphs=ALL)
        except ProviderError:
            assert precision == "bf16"
            continue
        assert provider in ("auto", choice.provider)
        assert precision in ("auto", choice.precision)
