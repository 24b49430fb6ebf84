"""The gRPC APIs of other systems, translated to the engine and back, each with a flag."""

from __future__ import annotations

from unitvec_server.config import ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.rpc.peer_api import PeerApi
from unitvec_server.rpc.streams import Streams


def open_peers(config: ServerConfig, backend: Backend, streams: Streams) -> list[PeerApi]:
    """Makes the APIs that are asked for. The protos of the others are not loaded."""
    peers = []
    if config.grpc_tei:
        from unitvec_server.peers.tei import open_tei

        peers.append(open_tei(config, backend, streams))
    if config.grpc_oip:
        from unitvec_server.peers.inference import open_inference

        peers.append(open_inference(config, backend, streams))
    return peers
