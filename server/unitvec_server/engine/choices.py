"""Which graph of an artifact runs where, on this machine and as it is configured."""

from __future__ import annotations

import dataclasses
import functools

from unitvec_server.config import ServerConfig
from unitvec_server.model.artifact import Artifact
from unitvec_server.model.cpus import usable_cpus
from unitvec_server.model.encoder import EncoderOptions, installed_providers
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import FUSED, Manifest
from unitvec_server.model.providers import Choice, Machine, choose_for_routes, choose_provider


@functools.cache  # asked several times at start; a CUDA device answers by setting itself up
def inspect_machine(provider: str) -> Machine:
    """What can run graphs here.

    Args:
        provider: As asked for, or ``auto``, which looks for a CUDA device.
    """
    return Machine(installed_providers(try_cuda=provider == "auto"), find_kernels())


def worker_count(config: ServerConfig) -> int:
    """Runs side by side: one for each usable CPU, or one in all on CUDA."""
    provider, _ = choose_provider(
        config.provider, config.precision, machine=inspect_machine(config.provider)
    )
    if provider == "cuda":
        return 1  # which --workers may exceed where cuda was not asked for, but found
    return config.workers or usable_cpus()


def choose_graphs(artifact: Artifact, config: ServerConfig) -> dict[str, Choice]:
    """Which graph of an artifact, and of each of its routes, runs where.

    Returns:
        Choices by the name of a folder, which is empty for the artifact itself.

    Raises:
        ProviderError: The execution provider is not available.
        ArtifactError: The artifact has no graph that fits.
    """
    parts = {"": artifact, **artifact.routes}
    choices = choose_for_routes(
        config.provider,
        config.precision,
        machine=inspect_machine(config.provider),
        graphs={folder: frozenset(part.manifest.graphs) for folder, part in parts.items()},
    )
    for folder, part in parts.items():
        part.graph_path(choices[folder].graph)
    return choices


def encoder_options(choice: Choice, manifest: Manifest) -> EncoderOptions:
    """How a graph is opened."""
    kernels = inspect_machine(choice.provider).kernels
    operators = kernels.library if choice.graph in FUSED else None
    return EncoderOptions(choice.provider, manifest.pad_token_id, operators=operators)


def as_served(manifest: Manifest, choice: Choice) -> Manifest:
    """The manifest with what is served under the name it is served by."""
    if choice.graph == choice.precision:
        return manifest
    graphs = {**manifest.graphs, choice.precision: manifest.graphs[choice.graph]}
    return dataclasses.replace(manifest, graphs=graphs)
