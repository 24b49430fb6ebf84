"""`verify`: the canary of a model -> its texts, embedded now -> are the vectors the same?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unitvec_client.core.calls import CallContext, exchange
from unitvec_client.core.decoding import decode_matrix
from unitvec_client.core.rpcs import EMBED, GET_CANARY
from unitvec_client.core.steps import Script
from unitvec_client.errors import ErrorFacts, ProtocolError, RefusedError
from unitvec_client.expectation import Expectation
from unitvec_client.methods.embedding import decode_reply, embed_request
from unitvec_client.options import EmbedOptions
from unitvec_client.verification import Verification, closeness
from unitvec_protos.v1 import embedding_pb2 as pb


def verify(context: CallContext, model: str) -> Script[Verification]:
    """Ask for the vectors that a model had at its export, and hold those of today against them.

    Args:
        context: Circumstances of the call.
        model: Name of the model; empty for the server's default.

    Raises:
        VerificationError: If they differ, on any route.
        RefusedError: If the model, or a route of it, has none to be held against.
        IdentityMismatchError: If vectors are not the expected ones, or servers behind one address
            compute differently.
    """
    canary = yield from exchange(context, GET_CANARY, pb.GetCanaryRequest(model=model))
    context.expect.check(canary.space, canary.bits, canary.model)
    routes = tuple(canary.routes)
    if not routes:
        return (yield from _verify_route(context, canary, ""))
    found: list[Verification] = []
    for name in routes:
        request = pb.GetCanaryRequest(model=canary.model, prompt_name=name)
        route = yield from exchange(context, GET_CANARY, request)
        found.append((yield from _verify_route(context, route, name)))
    return replace(
        found[0],
        texts=sum(each.texts for each in found),
        cosine_min=min(each.cosine_min for each in found),
        min_cosine=min(each.min_cosine for each in found),
        exact=all(each.exact for each in found),
        routes=routes,
    )


def _verify_route(
    context: CallContext, canary: pb.GetCanaryResponse, prompt_name: str
) -> Script[Verification]:
    """Hold the vectors of what embeds texts with a prompt against its canary."""
    texts = list(canary.texts)
    route = f" with the prompt {prompt_name!r}" if prompt_name else ""
    if not texts:
        raise _nothing_to_verify(canary.model, route)
    matrix = decode_matrix(canary.vectors, len(texts), pb.DTYPE_FLOAT32)
    expected = matrix.astype(np.float32, copy=False)
    options = EmbedOptions(model=canary.model, normalize=False, prompt_name=prompt_name)
    request = embed_request(texts, options, Expectation(canary.space, canary.bits))
    request.options.route_only = True
    response = yield from exchange(context, EMBED, request)
    vectors = decode_reply(response, len(texts), pb.DTYPE_FLOAT32).vectors
    if vectors.shape != expected.shape:
        shapes = f"{vectors.shape}, at export {expected.shape}"
        raise ProtocolError(f"bad reply: vectors have shape {shapes}")
    verification = Verification(
        model=canary.model,
        texts=len(texts),
        cosine_min=closeness(vectors, expected),
        min_cosine=canary.min_cosine,
        exact=canary.exact,
        space=canary.space,
        bits=canary.bits,
    )
    verification.check(route)
    if canary.exact and not np.array_equal(vectors, expected):
        raise verification.failure(f"last bits{route} differ from those of the export")
    return verification


def _nothing_to_verify(model: str, route: str) -> RefusedError:
    message = (
        f"model {model}{route} has no vectors of its export to be held against: its artifact is "
        "too old, or max_seq_length was edited below the length of its texts; export it again"
    )
    return RefusedError(message, ErrorFacts(reason="NO_CANARY", metadata={"model": model}))
