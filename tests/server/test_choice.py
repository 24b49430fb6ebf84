"""Provider and precision, as a table over machines."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from unitvec_server.config import PRECISIONS, PROVIDERS
from unitvec_server.errors import ProviderError
from unitvec_server.model.kernels import Kernels
from unitvec_server.model.manifest import PRECISIONS as PRECISIONS_OF_GRAPHS
from unitvec_server.model.providers import Machine, choose, choose_for_routes

PLAIN = Machine({"cpu"})
CUDA = Machine({"cpu", "cuda"})
FUSED = Machine({"cpu"}, Kernels(Path("k.so"), "avx512", ""))
FUSED_CUDA = Machine({"cpu", "cuda"}, FUSED.kernels)
FUSED_AVX2 = Machine({"cpu"}, Kernels(Path("k.so"), "avx2", ""))
MACHINES = (FUSED, FUSED_CUDA, FUSED_AVX2, PLAIN, CUDA)
ALL = frozenset(PRECISIONS_OF_GRAPHS)


@pytest.mark.parametrize(
    ("machine", "asked", "given", "why"),
    [
        (FUSED, "auto auto", "cpu int16 int16", "no CUDA device; fused operator on avx512"),
        (FUSED, "cpu auto", "cpu int16 int16", "fused operator on avx512"),
        (FUSED, "auto int16", "cpu int16 int16", "int16 graphs are made for the cpu"),
        (FUSED, "auto bf16", "cpu bf16 bf16", "bf16 graphs are made for the cpu"),
        (FUSED, "auto int8", "cpu int8 int8-fused", "fused operator on avx512"),
        (FUSED, "auto fp32", "cpu fp32 fp32", "precision as configured"),
        (FUSED_CUDA, "auto auto", "cuda fp16 fp16", "a CUDA device was found"),
        (FUSED_CUDA, "auto int16", "cpu int16 int16", "fused operator on avx512"),
        (FUSED_AVX2, "auto auto", "cpu int16 int16", "no CUDA device; fused operator on avx2"),
        (FUSED_AVX2, "auto int16", "cpu int16 int16", "fused operator on avx2"),
        (FUSED_AVX2, "auto int8", "cpu int8 int8-fused", "fused operator on avx2"),
        (PLAIN, "auto auto", "cpu fp32 fp32", "no CUDA device; plain graph"),
        (PLAIN, "auto auto", "cpu fp32 fp32", "plain graph: unitvec-kernels is not installed"),
        (PLAIN, "auto int8", "cpu int8 int8", "plain graph: unitvec-kernels is not installed"),
        (CUDA, "auto auto", "cuda fp16 fp16", "a CUDA device was found"),
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


@pytest.mark.parametrize("asked", ["auto", "int8"])
def test_without_fused_graphs_the_plain_ones_serve(asked: str) -> None:
    choice = choose("auto", asked, machine=FUSED, graphs=frozenset({"fp32", "int8"}))
    assert choice.graph == {"auto": "fp32"}.get(asked, asked)
    assert "plain graph: the model was exported without" in choice.reason


@pytest.mark.parametrize(
    ("machine", "asked", "message"),
    [
        (PLAIN, "auto int16", "unitvec-kernels is not installed; take --precision fp32 or auto"),
        (FUSED_CUDA, "cuda int16", "cuda has none; take --provider cpu"),
        (PLAIN, "auto bf16", "precision bf16 needs the fused operator, and unitvec-kernels is not"),
        (FUSED_CUDA, "cuda bf16", "--precision bf16: cuda has none; take --provider cpu"),
    ],
)
def test_refused(machine: Machine, asked: str, message: str) -> None:
    provider, precision = asked.split()
    with pytest.raises(ProviderError, match=message):
        choose(provider, precision, machine=machine, graphs=ALL)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_int8_and_bf16_are_never_chosen_silently(machine: Machine, provider: str) -> None:
    choice = choose(provider, "auto", machine=machine, graphs=ALL)
    assert not {choice.precision, choice.graph} & {"int8", "int8-fused", "bf16"}


@pytest.mark.parametrize(("provider", "precision"), list(itertools.product(PROVIDERS, PRECISIONS)))
def test_what_is_asked_for_is_given_or_refused(provider: str, precision: str) -> None:
    for machine in MACHINES:
        try:
            choice = choose(provider, precision, machine=machine, graphs=ALL)
        except ProviderError:
            assert precision in ("int16", "bf16")
            continue
        assert provider in ("auto", choice.provider)
        assert precision in ("auto", choice.precision)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("auto", {"": "fp32", "route-a": "int16"}),
        ("int8", {"": "fp32", "route-a": "int8-fused"}),
        ("int16", {"": "fp32", "route-a": "int16"}),
        ("fp32", {"": "fp32", "route-a": "fp32"}),
        ("fp16", {"": "fp16", "route-a": "fp16"}),  # which neither has: a folder says so itself
    ],
)
def test_a_route_without_a_graph_that_another_has_runs_in_fp32(
    precision: str, expected: dict[str, str]
) -> None:
    graphs = {"": {"fp32"}, "route-a": {"fp32", "int16", "int8", "int8-fused"}}
    found = choose_for_routes("auto", precision, machine=FUSED, graphs=graphs)
    assert {folder: choice.graph for folder, choice in found.items()} == expected
    assert len({choice.provider for choice in found.values()}) == 1
