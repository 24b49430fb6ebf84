"""Encodings -> embeddings. The only module that runs graphs.

On CPU one session serves N callers side by side, each run on one thread: with like-length,
cache-sized batches this embeds more text than one run over all cores. A fused graph is the one
operator of unitvec-kernels and takes texts without padding. On CUDA one caller at a time runs large
batches.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from unitvec_protos.installation import install_command
from unitvec_server.errors import ArtifactError, ProviderError
from unitvec_server.model.cpus import cpu_features
from unitvec_server.model.cuda import device_name, why_no_cuda

logger = logging.getLogger(__name__)

Provider = Literal["cpu", "cuda"]

_ORT_NAMES: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
_EXTRAS: dict[str, str] = {
    "cpu": "server",
    "cuda": "server-cuda",
}
_INPUTS = ("input_ids", "attention_mask")
_FUSED_INPUTS = ("input_ids", "starts")

_LONG_TOKENS = 512
"""Runs of longer texts give their memory back, which takes 2 ms: hundreds of MiB against tens."""

_CUDA_DEVICE = 0
"""The first of the devices that the process sees; CUDA_VISIBLE_DEVICES chooses another."""


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """Where and how a graph runs.

    Attributes:
        provider: Execution provider.
        pad_token_id: Fills up the shorter rows of a batch.
        operators: The library of unitvec-kernels, for a fused graph; None for any other.
    """

    provider: Provider = "cpu"
    pad_token_id: int = 0
    operators: Path | None = None


class Encoder:
    """Runs one graph. `encode` is safe to call from many threads.

    Args:
        graph_path: The ONNX file.
        options: Where and how it runs.

    Attributes:
        dim: Dimension D of the embeddings.
        pads: Whether batches are padded to their longest text; fused graphs take texts as they are.

    Raises:
        ProviderError: The provider is not installed or refuses the graph.
        ArtifactError: The graph cannot be loaded.
    """

    def __init__(self, graph_path: Path, options: EncoderOptions) -> None:
        self._options = options
        self._session = _open_session(graph_path, options)
        self._give_back = _run_options_that_give_back(options)
        self.pads = options.operators is None
        inputs = _INPUTS if self.pads else _FUSED_INPUTS
        self.dim = _check_signature(self._session, graph_path, inputs)

    def encode(self, rows: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Embeds a batch.

        Args:
            rows: B arrays of token ids, each (S_i,) int64.

        Returns:
            (B, D) float32.
        """
        if not self.pads:
            return self._run(pack(rows))
        input_ids, attention_mask = pad(rows, pad_token_id=self._options.pad_token_id)
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._options.provider == "cuda":
            return self._run_bound(feed)
        is_long = input_ids.shape[1] > _LONG_TOKENS
        return self._run(feed, self._give_back if is_long else None)

    def _run(
        self, feed: dict[str, npt.NDArray[np.int64]], run_options: Any = None
    ) -> npt.NDArray[np.float32]:
        embeddings: npt.NDArray[np.float32] = self._session.run(None, feed, run_options)[0]
        return embeddings

    def _run_bound(self, feed: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Runs with the inputs copied to the device once and only (B, D) copied back."""
        binding = self._session.io_binding()
        for name, array in feed.items():
            value = ort.OrtValue.ortvalue_from_numpy(array, "cuda", _CUDA_DEVICE)
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(self._session.get_outputs()[0].name, "cuda", _CUDA_DEVICE)
        self._session.run_with_iobinding(binding)
        embeddings: npt.NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return embeddings


def pack(rows: Sequence[npt.NDArray[np.int64]]) -> dict[str, npt.NDArray[np.int64]]:
    """Puts rows one after the other, for a fused graph.

    Args:
        rows: B arrays of token ids.

    Returns:
        input_ids (T,) int64 and starts (B + 1,) int64: where each row begins, and T.
    """
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=starts[1:])
    return {"input_ids": np.concatenate(rows, dtype=np.int64), "starts": starts}


def pad(
    rows: Sequence[npt.NDArray[np.int64]], *, pad_token_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Stacks rows of different lengths.

    Args:
        rows: B arrays of token ids, the longest of S.
        pad_token_id: Fills up the shorter ones.

    Returns:
        input_ids (B, S) int64 and attention_mask (B, S) int64 of 0 and 1.
    """
    shape = len(rows), max(1, *map(len, rows))
    input_ids = np.full(shape, pad_token_id, np.int64)
    attention_mask = np.zeros(shape, np.int64)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = row
        attention_mask[index, : len(row)] = 1
    return input_ids, attention_mask


def installed_providers(*, try_cuda: bool) -> frozenset[str]:
    """Which providers could run here: those of this onnxruntime, cuda only with all it needs.

    Args:
        try_cuda: Whether to look for CUDA, which loads its libraries and sets the device up.
    """
    names = set(ort.get_available_providers())
    found = {provider for provider, name in _ORT_NAMES.items() if name in names}
    if "cuda" in found and not (try_cuda and _has_cuda_device()):
        found.remove("cuda")
    return frozenset(found)


def describe_runtime(provider: Provider) -> dict[str, Any]:
    """What decides the bits of vectors beside a plain graph: the library, and the kind of machine.

    The last bits of a text's vector may depend on what it is batched with, too.
    """
    where: dict[str, Any] = {"machine": platform.machine(), "features": cpu_features()}
    if provider == "cuda":
        where = {"device": device_name()}
    return {"onnxruntime": ort.__version__, "provider": provider, **where}


def _has_cuda_device() -> bool:
    if missing := why_no_cuda(ort):
        logger.warning("no CUDA, although this onnxruntime has it: %s", missing)
        return False
    try:
        ort.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), "cuda", _CUDA_DEVICE)
    except Exception:  # noqa: BLE001 (onnxruntime's own classes derive from bare Exception)
        return False
    return True


def _open_session(path: Path, options: EncoderOptions) -> Any:
    name = _ORT_NAMES[options.provider]
    if name not in ort.get_available_providers():
        raise ProviderError(
            f"provider {options.provider} is not in this onnxruntime; "
            f"in a fresh environment: {install_command(_EXTRAS[options.provider])}"
        )
    if options.provider == "cuda" and (missing := why_no_cuda(ort)):
        raise ProviderError(f"provider cuda: {missing}")
    ort.disable_telemetry_events()  # who serves is told of nothing that leaves the machine
    try:
        session = ort.InferenceSession(
            str(path), _session_options(options), providers=[(name, _provider_options(options))]
        )
    except Exception as exc:  # onnxruntime's own classes derive from bare Exception
        raise ArtifactError(f"{path} cannot be loaded by onnxruntime: {exc}") from exc
    session.disable_fallback()
    if session.get_providers()[0] != name:
        raise ProviderError(
            f"provider {options.provider} could not be started (onnxruntime fell back to "
            f"{session.get_providers()[0]}); check the driver and CUDA libraries"
        )
    return session


def _run_options_that_give_back(options: EncoderOptions) -> ort.RunOptions | None:
    """After a run with these the arena returns its memory; otherwise it keeps the most it had."""
    if options.provider != "cpu":
        return None
    run_options = ort.RunOptions()
    run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return run_options


def _provider_options(options: EncoderOptions) -> dict[str, str]:
    return {"device_id": str(_CUDA_DEVICE)} if options.provider == "cuda" else {}


def _session_options(wanted: EncoderOptions) -> ort.SessionOptions:
    options = ort.SessionOptions()
    if wanted.operators:
        options.register_custom_ops_library(str(wanted.operators))
    # Parallelism comes from concurrent runs; a pool under each of them would fight over cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # A memory plan is kept for every input shape ever seen: unbounded growth in real traffic.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options


def _check_signature(session: Any, path: Path, wanted: tuple[str, str]) -> int:
    inputs = tuple(sorted(value.name for value in session.get_inputs()))
    outputs = session.get_outputs()
    takes = {value.type for value in session.get_inputs()}
    gives = [(value.type, len(value.shape), value.shape[-1:]) for value in outputs]
    kind, rank, last = gives[0] if len(gives) == 1 else ("", 0, [])
    expected = inputs == tuple(sorted(wanted)) and takes == {"tensor(int64)"}
    if not expected or (kind, rank) != ("tensor(float)", 2) or not isinstance(last[0], int):
        raise ArtifactError(
            f"{path} is not a unitvec graph (inputs {inputs} {takes}, outputs {gives}); "
            "export it again"
        )
    return last[0]
