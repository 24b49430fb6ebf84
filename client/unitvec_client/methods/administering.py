"""`reload_models`: what operators ask of a server."""

from __future__ import annotations

from unitvec_client.core.calls import CallContext, exchange
from unitvec_client.core.rpcs import RELOAD_MODELS
from unitvec_client.core.steps import Script
from unitvec_client.results import ReloadedModel
from unitvec_protos.v1 import admin_pb2 as pb

_OUTCOME = "RELOAD_OUTCOME_"


def reload_models(context: CallContext, model: str) -> Script[tuple[ReloadedModel, ...]]:
    """Ask for a reload, and wait for what comes of it. To ask again does no harm.

    Args:
        context: Circumstances of the call.
        model: Name of the model; empty for all.

    Raises:
        UnitvecError: If the call fails for good.
    """
    request = pb.ReloadModelsRequest(models=[model] if model else [])
    response = yield from exchange(context, RELOAD_MODELS, request)
    return tuple(
        ReloadedModel(
            each.model,
            pb.ReloadOutcome.Name(each.outcome).removeprefix(_OUTCOME).lower(),
            each.reason,
            each.space,
            each.bits,
        )
        for each in response.models
    )
