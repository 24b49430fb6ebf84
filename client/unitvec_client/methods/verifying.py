"""`verify`: the canary of a model -> its texts, embedded now -> are the vectors the same?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unitvec_client.core.calls import CallContext, exchange
from unitvec_client.core.decoding import decode_matrix
from unitvec_client.core.rpcs import GET_CANARY
from unitvec_client.core.steps import Script
from unitvec_client.errors import ErrorFacts, ProtocolError, RefusedError
from unitvec_client.expectation import Expectation
from unitvec_client.methods.embedding import embed_at_once
from unitvec_client.options import EmbedOptions
from unitvec_client.verification import Verification, closeness
from unitvec_protos.v1 import embedding_pb2 as pb


def verify(context: CallContext, model: str) -> Script[Verification]:
    """Ask for the vectors that a model had at its export, and hold those of today against them.

    Args:
        context: Circumstances of the call.
        model: Name of the model; empty for the server's default.

    Raises:
        VerificationError: If they differ.
        RefusedError: If the model has none to be held against.
        IdentityMismatchError: If vectors are not the expected ones, or servers behind one address
            compute differently.
    """
    response = yield from exchange(context, GET_CANARY, pb.GetCanaryRequest(model=model))
    context.expect.check(response.space, response.bits, response.model)
    texts = list(response.texts)
    if not texts:
        raise _nothing_to_verify(response.model)
    matrix = decode_matrix(response.vectors, len(texts), pb.DTYPE_FLOAT32)
    expected = matrix.astype(np.float32, copy=False)
    same = replace(context, expect=Expectation(response.space, response.bits))
    options = EmbedOptions(model=response.model, normalize=False, prompt_name="")
    result = yield from embed_at_once(same, texts, options)
    if result.vectors.shape != expected.shape:
        shapes = f"{result.vectors.shape}, at export {expected.shape}"
        raise ProtocolError(f"bad reply: vectors have shape {shapes}")
    verification = Verification(
        model=response.model,
        texts=len(texts),
        cosine_min=closeness(result.vectors, expected),
        min_cosine=response.min_cosine,
        exact=response.exact,
        space=response.space,
        bits=response.bits,
    )
    verification.check()
    if response.exact and not np.array_equal(result.vectors, expected):
        raise verification.failure("last bits differ from those of the export")
    return verification


def _nothing_to_verify(model: str) -> RefusedError:
    message = (
        f"model {model} has no vectors of its export to be held against: its artifact is too old, "
        "or it takes no text without a prompt; export it again"
    )
    return RefusedError(message, ErrorFacts(reason="NO_CANARY", metadata={"model": model}))
