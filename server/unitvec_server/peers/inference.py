"""`inference.GRPCInferenceService`: the Open Inference Protocol v2, as clients of Triton call it.

`docs/migrating/triton.md` lists what differs from Triton, each on purpose.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from unitvec_protos import __version__
from unitvec_protos.inference import inference_pb2 as pb
from unitvec_server.config import ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import current_caller
from unitvec_server.engine.choices import worker_count
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Caller, Model
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import ModelNotFound
from unitvec_server.peers.inference_models import (
    VERSION,
    write_config,
    write_metadata,
    write_statistics,
)
from unitvec_server.peers.inference_options import read_deadline_s, read_options
from unitvec_server.peers.inference_tensors import read_output_name, read_tensors, write_vectors
from unitvec_server.rpc.intake import Context
from unitvec_server.rpc.interceptor import describe
from unitvec_server.rpc.peer_api import PeerApi, rename_options
from unitvec_server.rpc.status import name_code
from unitvec_server.rpc.streams import Streams

_EXTENSIONS = ("binary_tensor_data", "model_configuration", "parameters", "statistics")

_OFF_LOOP_BYTES = 65_536
"""Size of a request that takes about as long to read as a hop to a thread and back, 0.25 ms."""

_REFUSED = (
    *("RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"),
    *(
        f"{kind}SharedMemory{verb}"
        for kind in ("System", "Cuda")
        for verb in ("Status", "Register", "Unregister")
    ),
)
_ADVICE = "this server serves the models that it started with, over messages only"


def open_inference(config: ServerConfig, backend: Backend, streams: Streams) -> PeerApi:
    """Makes the API; its calls are answered once the models are loaded."""
    inference = _Inference(config, backend, streams)
    answers: Mapping[str, Callable[..., Any]] = {
        "ServerLive": inference.server_live,
        "ServerReady": inference.server_ready,
        "ServerMetadata": inference.server_metadata,
        "ModelReady": inference.model_ready,
        "ModelMetadata": inference.model_metadata,
        "ModelConfig": inference.model_config,
        "ModelInfer": inference.model_infer,
        "ModelStreamInfer": inference.model_stream_infer,
        "ModelStatistics": inference.model_statistics,
        "RepositoryIndex": inference.repository_index,
    }
    refused = [f"/inference.GRPCInferenceService/{name}" for name in _REFUSED]
    return PeerApi(pb.DESCRIPTOR, answers, refused=refused, advice=_ADVICE)


class _Inference:
    """Answers the methods of the service."""

    def __init__(self, config: ServerConfig, backend: Backend, streams: Streams) -> None:
        self._config, self._backend, self._streams = config, backend, streams
        self._workers = worker_count(config)

    async def server_live(
        self, request: pb.ServerLiveRequest, context: Context
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._backend.is_open)

    async def server_metadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name="unitvec", version=__version__, extensions=_EXTENSIONS
        )

    async def model_ready(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        if not self._backend.is_open:
            return pb.ModelReadyResponse(ready=False)
        try:
            self._find(self._backend.engine, request.name, request.version)
        except ModelNotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        return write_metadata(self._find(self._backend.engine, request.name, request.version))

    async def model_config(
        self, request: pb.ModelConfigRequest, context: Context
    ) -> pb.ModelConfigResponse:
        model = self._find(self._backend.engine, request.name, request.version)
        most = self._config.max_texts_per_request
        return pb.ModelConfigResponse(
            config=write_config(model, max_texts=most, workers=self._workers)
        )

    async def model_statistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        engine = self._backend.engine
        models = [self._find(engine, request.name, request.version)]
        if not request.name:
            models = list(engine.models.values())
        return pb.ModelStatisticsResponse(
            model_stats=[write_statistics(engine, model.name) for model in models]
        )

    async def repository_index(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        is_ready = self._backend.is_open
        state = "READY" if is_ready else "LOADING"
        names = [spec.name for spec in self._config.model if is_ready or not request.ready]
        models = [{"name": name, "version": VERSION, "state": state} for name in names]
        return pb.RepositoryIndexResponse(models=models)

    async def model_infer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        return await self._infer(self._backend.engine, request, current_caller())

    async def model_stream_infer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncGenerator[pb.ModelStreamInferResponse]:
        engine, caller = self._backend.engine, current_caller(waits=True)
        most_rows = self._config.max_texts_per_request
        row_bytes = 4 * max(model.manifest.dim for model in engine.models.values())

        async def answer(request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
            try:
                response = await self._infer(engine, request, caller)
            except Exception as exc:
                return _write_failure(request, exc)
            response.parameters["triton_final_response"].bool_param = True
            return pb.ModelStreamInferResponse(infer_response=response)

        def weigh(request: pb.ModelInferRequest) -> int:
            rows = max((each.shape[0] for each in request.inputs if each.shape), default=0)
            return request.ByteSize() + row_bytes * min(max(rows, 0), most_rows)

        answered = self._streams.answer(requests, answer, weigh=weigh, in_order=True)
        async with contextlib.aclosing(answered) as replies:
            async for reply in replies:
                yield reply

    async def _infer(
        self, engine: Engine, request: pb.ModelInferRequest, caller: Caller
    ) -> pb.ModelInferResponse:
        model = self._find(engine, request.model_name, request.model_version)
        options, name = read_options(request.parameters), read_output_name(request)
        deadline_s = read_deadline_s(request.parameters)
        caller = dataclasses.replace(caller, deadline_s=min(caller.deadline_s, deadline_s))
        read = functools.partial(read_tensors, request, options, limits=self._config)
        is_long = request.ByteSize() > _OFF_LOOP_BYTES
        texts = await run_off_loop(engine.executor, read) if is_long else read()
        with rename_options("parameters[{}]"):
            [embedded] = await engine.embed(model, [texts], caller=caller)
        response = pb.ModelInferResponse(
            model_name=model.name, model_version=VERSION, id=request.id
        )
        write_vectors(response, name, embedded)
        for fact, value in model.identity._asdict().items():
            response.parameters[fact].string_param = value
        return response

    @staticmethod
    def _find(engine: Engine, name: str, version: str) -> Model:
        model = engine.model(name)
        if version not in ("", VERSION):
            raise ModelNotFound(
                f"no version {version[:100]!r} of model {model.name}; served: {VERSION}",
                field="version",
            )
        return model


def _write_failure(
    request: pb.ModelInferRequest, failure: Exception
) -> pb.ModelStreamInferResponse:
    error = describe(failure)
    response = pb.ModelStreamInferResponse(error_message=error.message)
    response.infer_response.id = request.id
    response.infer_response.model_name = request.model_name
    parameters = response.infer_response.parameters
    parameters["code"].string_param = name_code(error.code)
    parameters["reason"].string_param = error.reason
    if error.retry_delay_ms:
        parameters["retry_delay_ms"].uint64_param = error.retry_delay_ms
    return response
