"""sentence-transformers: torch fp32, which is the reference, on CUDA, and two other backends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.adapters.plain_export import folder_of
from bench.harness.adapter import SequentialAdapter, Setup, Vectors

BATCH_SIZE = 32  # the default of `SentenceTransformer.encode`


class _SentenceTransformers(SequentialAdapter):
    def __init__(self, model: Any, setup: Setup) -> None:
        self._model = model
        self._batch_size = int(setup.flavour or BATCH_SIZE)
        self.token_limit = setup.max_seq_length

    def embed(self, texts: list[str]) -> Vectors:
        """`SentenceTransformer.encode` with its default options, but for a flavour's batch size."""
        size = self._batch_size
        vectors: Vectors = self._model.encode(texts, batch_size=size, show_progress_bar=False)
        return vectors


class TorchModel(_SentenceTransformers):
    """The model as its users load it, fp32 on CPU."""

    packages = ("sentence-transformers", "torch", "transformers", "tokenizers")
    device = "cpu"
    dtype = "float32"

    def __init__(self, setup: Setup) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(setup.threads)
        model = SentenceTransformer(
            setup.model_folder,
            device=self.device,
            local_files_only=True,
            model_kwargs={"dtype": getattr(torch, self.dtype)},
        )
        super().__init__(model, setup)


class CudaModel(TorchModel):
    """The same on a CUDA device: what a `@cuda` variant is held against."""

    device = "cuda"


class CudaHalfModel(CudaModel):
    """The same in half precision: what unitvec's fp16 is held against."""

    dtype = "float16"


class OnnxModel(_SentenceTransformers):
    """`backend="onnx"`: optimum's plain export on onnxruntime, all threads in one session."""

    packages = ("sentence-transformers", "onnxruntime", "optimum", "tokenizers")

    def __init__(self, setup: Setup) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(setup.threads)
        model = SentenceTransformer(
            str(folder_of(Path(setup.cache))),
            backend="onnx",
            local_files_only=True,
            model_kwargs={
                "provider": "CPUExecutionProvider",
                "session_options": session_options(setup.threads),
            },
        )
        super().__init__(model, setup)


class OpenvinoModel(_SentenceTransformers):
    """`backend="openvino"`: exported as it is loaded, all threads in one request."""

    packages = ("sentence-transformers", "openvino", "optimum-intel", "tokenizers")

    def __init__(self, setup: Setup) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(setup.threads)
        model = SentenceTransformer(
            setup.model_folder,
            backend="openvino",
            device="cpu",
            local_files_only=True,
            model_kwargs={"ov_config": {"INFERENCE_NUM_THREADS": setup.threads}},
        )
        super().__init__(model, setup)


def session_options(threads: int) -> Any:
    """Onnxruntime's defaults, with its one pool held to the thread budget."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return options
