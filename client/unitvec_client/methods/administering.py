"""`health` and `reload_models`: what operators ask of a server."""

from __future__ import annotations

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from unitvec_client.core.calls import CallContext, exchange
from unitvec_client.core.failures import Failure
from unitvec_client.core.rpcs import HEALTH_CHECK, HEALTH_STATUSES, RELOAD_MODELS
from unitvec_client.core.steps import Invoke, Script
from unitvec_client.results import ReloadedModel
from unitvec_protos.v1 import admin_pb2 as pb

_OUTCOME = "RELOAD_OUTCOME_"


def health(context: CallContext, service: str) -> Script[str]:
    """Ask whether a service is ready, once.

    Args:
        context: Circumstances of the call.
        service: Full name; empty for all.

    Raises:
        UnitvecError: If the call fails.
    """
    outcome = yield Invoke(context.call(HEALTH_CHECK, StringValue(value=service)))
    if not isinstance(outcome, Failure):
        return HEALTH_STATUSES.get(outcome.value, "UNKNOWN")
    if outcome.code is grpc.StatusCode.NOT_FOUND:
        return "SERVICE_UNKNOWN"
    raise context.error(outcome)


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
