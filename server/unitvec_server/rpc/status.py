"""Domain errors as gRPC statuses, by the table of all doors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.doors.statuses import STATUSES
from unitvec_server.errors import RequestError

STATUS_CODES: Mapping[type[RequestError], grpc.StatusCode] = {
    kind: grpc.StatusCode[status.code] for kind, status in STATUSES.items()
}

_DOMAIN = "unitvec"
_MAX_TEXT_BYTES = 1000  # trailers share 8 KiB by default, and each error travels in two of them


class Trailer(NamedTuple):
    """One entry of trailing metadata."""

    key: str
    value: str | bytes


def to_message(error: RequestError, *, request_id: str) -> pb.Error:
    """Returns an error as a message, for streams and for the trailer `unitvec-error-bin`."""
    return pb.Error(
        code=_number(error),
        reason=error.reason,
        message=_cut(str(error)),
        field=_cut(error.field),
        retry_delay_ms=math.ceil(error.retry_delay_s * 1000),
        request_id=request_id,
        metadata=error.metadata,
    )


def to_trailers(message: pb.Error) -> Sequence[Trailer]:
    """Returns the trailing metadata that carry the details of an error."""
    trailers = [
        Trailer("x-request-id", message.request_id),
        Trailer("grpc-status-details-bin", _rich_status(message).SerializeToString()),
        Trailer("unitvec-error-bin", message.SerializeToString()),
    ]
    if message.retry_delay_ms:  # honoured by gRPC's built-in retries (gRFC A6)
        trailers.append(Trailer("grpc-retry-pushback-ms", str(message.retry_delay_ms)))
    return trailers


def name_code(number: int) -> str:
    """Returns the name of a canonical code."""
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def status_code(error: RequestError) -> grpc.StatusCode:
    """Returns the canonical code of an error."""
    return STATUS_CODES[type(error)]


def _cut(text: str) -> str:
    return text.encode()[:_MAX_TEXT_BYTES].decode(errors="ignore")


def _number(error: RequestError) -> int:
    number: int = status_code(error).value[0]
    return number


def _rich_status(message: pb.Error) -> status_pb2.Status:
    status = status_pb2.Status(code=message.code, message=message.message)
    details = [
        error_details_pb2.ErrorInfo(
            reason=message.reason, domain=_DOMAIN, metadata=message.metadata
        ),
        error_details_pb2.RequestInfo(request_id=message.request_id),
    ]
    if message.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=message.field, description=message.message, reason=message.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if message.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]:
        unmet = error_details_pb2.PreconditionFailure.Violation(
            type=message.reason, subject=message.field, description=message.message
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[unmet]))
    if message.retry_delay_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(message.retry_delay_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        status.details.add().Pack(detail)
    return status
