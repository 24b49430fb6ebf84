"""The remote methods, as data: what both kinds of channel need to call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from unitvec_protos.v1 import admin_pb2
from unitvec_protos.v1 import embedding_pb2 as pb


@dataclass(frozen=True, slots=True)
class Method:
    """One remote method.

    Attributes:
        path: Name on the wire, ``/package.Service/Method``.
        serialize: Function that makes bytes of a request message.
        deserialize: Function that makes a response message of bytes.
    """

    path: str
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]


def _method(name: str, request: Any, response: Any, *, service: str = "EmbeddingService") -> Method:
    path = f"/unitvec.v1.{service}/{name}"
    return Method(path, request.SerializeToString, response.FromString)


EMBED = _method("Embed", pb.EmbedRequest, pb.EmbedResponse)
STREAM_EMBED = _method("StreamEmbed", pb.StreamEmbedRequest, pb.StreamEmbedResponse)
SIMILARITY = _method("Similarity", pb.SimilarityRequest, pb.SimilarityResponse)
STREAM_SIMILARITY = _method(
    "StreamSimilarity", pb.StreamSimilarityRequest, pb.StreamSimilarityResponse
)
TOKENIZE = _method("Tokenize", pb.TokenizeRequest, pb.TokenizeResponse)
LIST_MODELS = _method("ListModels", pb.ListModelsRequest, pb.ListModelsResponse)
GET_CANARY = _method("GetCanary", pb.GetCanaryRequest, pb.GetCanaryResponse)
RELOAD_MODELS = _method(
    "ReloadModels",
    *(admin_pb2.ReloadModelsRequest, admin_pb2.ReloadModelsResponse),
    service="AdminService",
)

# grpc.health.v1 has a request of one string and a response of one enum, each as field 1. On the
# wire that is the same as these wrappers, which spare us a dependency.
HEALTH_CHECK = Method(
    "/grpc.health.v1.Health/Check", StringValue.SerializeToString, Int32Value.FromString
)
HEALTH_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
