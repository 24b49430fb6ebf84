"""The APIs of other systems: complete, and while the models load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unitvec_protos.inference import inference_pb2
from unitvec_protos.tei import tei_pb2
from unitvec_server.config import FixedLimits, ModelSpec, ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.errors import Unavailable
from unitvec_server.peers import open_peers
from unitvec_server.rpc.peer_api import PeerApi, path_of
from unitvec_server.rpc.streams import Streams

CONFIG = ServerConfig(model=(ModelSpec("tiny", Path("tiny")),))
SERVICE = "/inference.GRPCInferenceService"


@pytest.fixture
def peers() -> list[PeerApi]:
    """Both, of a server whose models are not loaded."""
    return open_peers(CONFIG, Backend(), Streams(CONFIG, FixedLimits()))


def test_each_can_be_left_out() -> None:
    def services(**flags: bool) -> list[str]:
        config = ServerConfig(**flags)
        made = open_peers(config, Backend(), Streams(config, FixedLimits()))
        return [name for peer in made for name in peer.services]

    theirs = ["tei.v1.Info", "tei.v1.Embed", "tei.v1.Tokenize"]
    assert services() == [*theirs, "inference.GRPCInferenceService"]
    assert services(grpc_oip=False) == theirs
    assert services(grpc_tei=False) == ["inference.GRPCInferenceService"]


def test_every_method_of_the_protos_has_a_handler(peers: list[PeerApi]) -> None:
    for peer in peers:
        for method in peer.methods:
            handler = peer.service(SimpleNamespace(method=path_of(method)))
            assert handler.request_streaming == method.client_streaming
            assert handler.response_streaming == method.server_streaming


def test_methods_of_others_are_not_theirs(peers: list[PeerApi]) -> None:
    details = SimpleNamespace(method="/unitvec.v1.EmbeddingService/Embed")
    assert [peer.service(details) for peer in peers] == [None, None]


class TestLoading:
    """The server lives and is not ready; what needs a model is told to come again."""

    @pytest.fixture
    def call(self, peers: list[PeerApi]) -> Callable[[str, Any], Awaitable[Any]]:
        def make(path: str, request: Any) -> Awaitable[Any]:
            found = [peer.service(SimpleNamespace(method=path)) for peer in peers]
            [handler] = [each for each in found if each]
            return handler.unary_unary(request, None)

        return make

    async def test_states(self, call: Any) -> None:
        live = await call(f"{SERVICE}/ServerLive", inference_pb2.ServerLiveRequest())
        ready = await call(f"{SERVICE}/ServerReady", inference_pb2.ServerReadyRequest())
        model = await call(f"{SERVICE}/ModelReady", inference_pb2.ModelReadyRequest(name="tiny"))
        assert (live.live, ready.ready, model.ready) == (True, False, False)

    async def test_index(self, call: Any) -> None:
        path = f"{SERVICE}/RepositoryIndex"
        [model] = (await call(path, inference_pb2.RepositoryIndexRequest())).models
        assert (model.name, model.state) == ("tiny", "LOADING")
        assert not (await call(path, inference_pb2.RepositoryIndexRequest(ready=True))).models

    @pytest.mark.parametrize(
        ("path", "request_"),
        [
            ("/tei.v1.Info/Info", tei_pb2.InfoRequest()),
            (f"{SERVICE}/ModelMetadata", inference_pb2.ModelMetadataRequest()),
            (f"{SERVICE}/ModelStatistics", inference_pb2.ModelStatisticsRequest()),
        ],
    )
    async def test_what_needs_a_model(self, call: Any, path: str, request_: Any) -> None:
        with pytest.raises(Unavailable) as caught:
            await call(path, request_)
        assert caught.value.reason == "STARTING"
