"""What clients of Triton may know of a model: its tensors, its configuration, its statistics."""

from __future__ import annotations

import time

from unitvec_protos.inference import inference_pb2 as pb
from unitvec_server.engine.counters import Histogram
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Model

VERSION = "1"
"""The version of every model: a server has one of each."""

TEXT, EMBEDDING = "text", "embedding"
"""Names of the tensors, where a request names them as it likes."""

_BACKEND = "unitvec"


def write_metadata(model: Model) -> pb.ModelMetadataResponse:
    """Writes the tensors of a model. Token ids, which may come in place of texts, are left out.

    Tools send a tensor for each that is listed.
    """
    response = pb.ModelMetadataResponse(name=model.name, versions=[VERSION], platform=_BACKEND)
    response.inputs.add(name=TEXT, datatype="BYTES", shape=[-1, 1])
    response.outputs.add(name=EMBEDDING, datatype="FP32", shape=[-1, model.manifest.dim])
    return response


def write_config(model: Model, *, max_texts: int, workers: int) -> pb.ModelConfig:
    """Writes a model as Triton's configuration would describe it.

    Args:
        model: The model.
        max_texts: Texts in one request.
        workers: Runs side by side.
    """
    on_gpu = model.provider == "cuda"
    kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU
    return pb.ModelConfig(
        name=model.name,
        backend=_BACKEND,
        version_policy={"latest": {"num_versions": 1}},
        max_batch_size=max_texts,
        input=[pb.ModelInput(name=TEXT, data_type=pb.TYPE_STRING, dims=[1])],
        output=[pb.ModelOutput(name=EMBEDDING, data_type=pb.TYPE_FP32, dims=[model.manifest.dim])],
        instance_group=[pb.ModelInstanceGroup(name=model.name, count=workers, kind=kind)],
        dynamic_batching=pb.ModelDynamicBatching(),
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )


def write_statistics(engine: Engine, name: str) -> pb.ModelStatistics:
    """Writes what a model has answered since the server started."""
    tally, batches = engine.tallies[name], engine.batches(name)
    parts = (tally.tokenize_seconds, tally.queue_seconds, tally.infer_seconds)
    tokenize, queue, infer = map(_duration, parts)
    total = pb.StatisticDuration(count=infer.count, ns=tokenize.ns + queue.ns + infer.ns)
    age_ns = time.monotonic_ns() - tally.last_ns
    return pb.ModelStatistics(
        name=name,
        version=VERSION,
        last_inference=(time.time_ns() - age_ns) // 1_000_000 if tally.last_ns else 0,
        inference_count=tally.texts,
        execution_count=sum(batches.texts.read().counts),
        inference_stats=pb.InferStatistics(
            success=total, queue=queue, compute_input=tokenize, compute_infer=infer
        ),
    )


def _duration(seconds: Histogram) -> pb.StatisticDuration:
    counts, sum_s = seconds.read()
    return pb.StatisticDuration(count=sum(counts), ns=round(sum_s * 1e9))
