"""Exhaustive maps: no error without a status, no enum value without a meaning."""

import contextlib
import inspect
import itertools
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server import config, errors
from unitvec_server.errors import (
    InvalidRequest,
    Overloaded,
    ProviderError,
    RequestError,
    StartupError,
)
from unitvec_server.model.kernels import Kernels
from unitvec_server.model.manifest import POOLINGS, PRECISIONS
from unitvec_server.model.providers import Machine, choose
from unitvec_server.rpc import messages
from unitvec_server.rpc.status import STATUS_CODES, status_code, to_message, to_trailers
from unitvec_server.vectors.packing import Dtype
from unitvec_server.vectors.scores import Metric

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass)]
REQUEST_ERRORS = [c for c in CLASSES if issubclass(c, RequestError) and c is not RequestError]


def make(kind: type[RequestError]) -> RequestError:
    """An error of this class."""
    return (
        Overloaded("full", retry_delay_s=0.25, bound="deadline")
        if kind is Overloaded
        else kind("no")
    )


@pytest.mark.parametrize("kind", REQUEST_ERRORS)
class TestStatus:
    """Every request error reaches its client."""

    def test_has_a_code_of_its_own(self, kind: type[RequestError]) -> None:
        code = status_code(make(kind))
        assert code not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
        assert [k for k, v in STATUS_CODES.items() if v is code] == [kind]

    def test_has_a_reason(self, kind: type[RequestError]) -> None:
        assert make(kind).reason.isupper()
        assert make(kind).reason != RequestError.default_reason

    def test_message_and_trailers_agree(self, kind: type[RequestError]) -> None:
        error = make(kind)
        message = to_message(error, request_id="id-1")
        trailers = {trailer.key: trailer.value for trailer in to_trailers(message)}
        assert trailers["x-request-id"] == "id-1"
        assert pb.Error.FromString(trailers["unitvec-error-bin"]) == message
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        assert (status.code, status.message) == (status_code(error).value[0], str(error))
        details = {detail.TypeName(): detail for detail in status.details}
        info = error_details_pb2.ErrorInfo()
        assert details["google.rpc.ErrorInfo"].Unpack(info)
        assert info.reason == error.reason
        assert ("google.rpc.BadRequest" in details) == (kind is InvalidRequest)
        assert ("google.rpc.RetryInfo" in details) == (kind is Overloaded)
        assert ("grpc-retry-pushback-ms" in trailers) == (kind is Overloaded)


def test_table_holds_no_strangers() -> None:
    """What it maps is what there is."""
    assert set(STATUS_CODES) == set(REQUEST_ERRORS)


def test_every_error_is_of_one_of_the_two_kinds() -> None:
    """It ends the start or one request."""
    kinds = (StartupError, RequestError)
    for item in CLASSES:
        if item is not errors.ServerError:
            assert sum(issubclass(item, kind) for kind in kinds) == 1
            assert item.__doc__


def test_retry_delay_travels_in_milliseconds_rounded_up() -> None:
    """A client that waits this long finds room."""
    message = to_message(Overloaded("full", retry_delay_s=0.0501, bound="deadline"), request_id="")
    assert message.retry_delay_ms == 51
    trailers = dict(to_trailers(message))
    assert trailers["grpc-retry-pushback-ms"] == "51"
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() == 51


def test_trailers_stay_small_however_long_the_message() -> None:
    """Peers refuse more than 8 KiB of metadata by default; binary values grow by a third."""
    error = InvalidRequest("x" * 100_000, field="cross.documents.texts[1023]")
    message = to_message(error, request_id="x" * 128)
    sizes = [len(key) + 4 * len(value) / 3 for key, value in to_trailers(message)]
    assert sum(sizes) + len(message.message) < 8192  # gRPC sends the message once more


ENUMS = [
    (pb.Truncate, messages._TRUNCATIONS),
    (pb.Dtype, messages._DTYPES),
    (pb.Metric, messages._METRICS),
]


class TestEnums:
    """The contract's enums and ours."""

    @pytest.mark.parametrize(("enum", "table"), ENUMS)
    def test_every_value_of_the_contract_is_mapped(self, enum: object, table: object) -> None:
        assert set(table) == set(enum.values())  # type: ignore[call-overload,attr-defined]

    def test_every_value_of_ours_is_reached(self) -> None:
        assert set(messages._DTYPES.values()) == set(Dtype) == set(messages._DTYPE_NUMBERS)
        assert set(messages._METRICS.values()) == set(Metric)
        assert {messages._DTYPES[n] for n in messages._DTYPE_NUMBERS.values()} == set(Dtype)

    def test_dtype_numbers_are_the_way_back(self) -> None:
        for dtype, number in messages._DTYPE_NUMBERS.items():
            assert messages._DTYPES[number] is dtype
            assert pb.Dtype.Name(number) == f"DTYPE_{dtype.name}"

    def test_every_pooling_of_an_artifact_is_told(self) -> None:
        assert set(messages._POOLINGS) == set(POOLINGS)
        assert {*messages._POOLINGS.values(), pb.POOLING_CONCATENATED} == set(
            pb.Pooling.values()
        ) - {0}

    def test_precisions_of_flags_lead_to_all_graphs_of_artifacts(self) -> None:
        providers = frozenset(config.PROVIDERS)
        kernels = Kernels(Path("k.so"), "avx512", "")
        machines = Machine(providers), Machine(providers, kernels)
        graphs = set()
        for provider, precision, machine in itertools.product(
            config.PROVIDERS, config.PRECISIONS, machines
        ):
            with contextlib.suppress(ProviderError):
                choice = choose(provider, precision, machine=machine, graphs=frozenset(PRECISIONS))
                graphs.add(choice.graph)
        assert graphs == set(PRECISIONS)

    @pytest.mark.parametrize("value", [99, -1, 2**31 - 1])
    def test_unknown_values_name_their_field(self, value: int) -> None:
        calls = [
            (lambda: messages.read_options(pb.EncodeOptions(truncate=value)), "options.truncate"),  # type: ignore[arg-type]
            (lambda: messages.read_truncation(value), "truncate"),
            (lambda: messages.read_metric(value), "metric"),
            (lambda: messages.read_dtype(pb.EmbedRequest(dtype=value)), "dtype"),  # type: ignore[arg-type]
            (lambda: messages.read_matrix(pb.Matrix(dtype=value), field="v"), "v.dtype"),  # type: ignore[arg-type]
        ]
        for call, field in calls:
            with pytest.raises(InvalidRequest) as caught:
                call()
            assert (caught.value.reason, caught.value.field) == ("UNKNOWN_ENUM_VALUE", field)


def test_limits_of_the_contract_are_set_or_fixed() -> None:
    """ListModels reads them by name."""
    names = {field.name for field in pb.Limits.DESCRIPTOR.fields}
    fields = config.ServerConfig.__dataclass_fields__, config.FixedLimits.__dataclass_fields__
    assert names <= set().union(*fields)
