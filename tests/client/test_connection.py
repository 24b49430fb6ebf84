"""Channels: TLS, mutual TLS, tokens, options."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import unitvec_client as uv
from unitvec_client.connection import call_metadata, channel_arguments
from unitvec_client.core.rpcs import Method
from unitvec_protos.v1 import admin_pb2
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc


def make_pair(name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer or (key, None)
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[1].subject if signer[1] else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer[0], hashes.SHA256())
    )
    return key, certificate


def pem(pair: tuple[Any, Any]) -> tuple[bytes, bytes]:
    key, certificate = pair
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


class Papers:
    """An authority, a server's papers and a client's."""

    def __init__(self) -> None:
        authority = make_pair("authority")
        self.root = pem(authority)[1]
        self.server = pem(make_pair("embeddings.test", authority))
        self.client = pem(make_pair("client", authority))


@pytest.fixture(scope="module")
def papers() -> Papers:
    return Papers()


@pytest.fixture
def serve_tls(fake: Any, papers: Papers) -> Iterator[Callable[[bool], str]]:
    servers: list[grpc.Server] = []

    def serve(mutual: bool) -> str:
        server = grpc.server(ThreadPoolExecutor(4))
        pb_grpc.add_EmbeddingServiceServicer_to_server(fake.servicer, server)
        credentials = grpc.ssl_server_credentials(
            [papers.server],
            root_certificates=papers.root if mutual else None,
            require_client_auth=mutual,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield serve
    for server in servers:
        server.stop(None).wait()


def test_tls_with_a_root_of_ones_own(connect: Any, serve_tls: Any, papers: Papers) -> None:
    connection = uv.ConnectionOptions(tls=True, root_certificates=papers.root, token="secret")
    assert connect(serve_tls(False), connection=connection).embed("a").shape == (8,)


def test_tls_of_an_unknown_authority_is_unavailable(connect: Any, serve_tls: Any) -> None:
    other = pem(make_pair("other"))[1]
    connection = uv.ConnectionOptions(tls=True, root_certificates=other)
    with pytest.raises(uv.UnavailableError, match=r"of no known authority.*root_certificates"):
        connect(serve_tls(False), connection=connection).embed("a")


def test_tls_with_a_plaintext_server_says_so(connect: Any, fake: Any, papers: Papers) -> None:
    connection = uv.ConnectionOptions(tls=True, root_certificates=papers.root)
    with pytest.raises(uv.UnavailableError, match="does not speak TLS: connect with"):
        connect(fake.target, connection=connection).embed("a")


def test_plaintext_with_a_tls_server_says_so(connect: Any, serve_tls: Any) -> None:
    target = serve_tls(False)
    with pytest.raises(uv.UnavailableError, match=f"^{target} ended .*if it speaks TLS.*tls=True"):
        connect(target).embed("a")


def test_a_certificate_of_another_name_says_so(
    connect: Any, serve_tls: Any, papers: Papers
) -> None:
    connection = uv.ConnectionOptions(tls=True, root_certificates=papers.root)
    target = serve_tls(False).replace("127.0.0.1", "localhost")
    with pytest.raises(uv.UnavailableError, match="is for another name: give server_name"):
        connect(target, connection=connection).embed("a")


def test_mutual_tls_from_files(
    connect: Any, serve_tls: Any, papers: Papers, tmp_path: Path
) -> None:
    files = {"root": papers.root, "key": papers.client[0], "chain": papers.client[1]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    target = serve_tls(True)
    connection = uv.ConnectionOptions(
        tls=True,
        root_certificates=tmp_path / "root",
        client_key=str(tmp_path / "key"),
        client_chain=tmp_path / "chain",
        server_name="embeddings.test",
    )
    assert connect(target, connection=connection).embed("a").shape == (8,)
    nameless = uv.ConnectionOptions(tls=True, root_certificates=papers.root)
    with pytest.raises(uv.UnavailableError, match="client_key and client_chain"):
        connect(target, connection=nameless).embed("a")


def test_round_robin_reaches_every_address(connect: Any, fake: Any, serve: Any) -> None:
    other = type(fake.servicer)()
    _, port = serve(other)
    target = f"ipv4:{fake.target},127.0.0.1:{port}"
    connection = uv.ConnectionOptions(load_balancing="round_robin")
    client = connect(target, connection=connection)
    client.embed([f"text {i}" for i in range(400)])
    assert other.calls("Embed")
    assert fake.servicer.calls("Embed")


def test_compressed_requests_arrive(connect: Any, fake: Any) -> None:
    connection = uv.ConnectionOptions(compression="gzip")
    assert connect(fake.target, connection=connection).embed(["a" * 900] * 16).shape == (16, 8)


@pytest.mark.parametrize(
    "keywords",
    [
        {"root_certificates": b"x"},
        {"server_name": "x"},
        {"tls": True, "client_key": b"x"},
        {"compression": "zstd"},
        {"load_balancing": "random"},
        {"max_message_bytes": 0},
        {"keepalive_time_s": 0},
        {"token": "two\nlines"},
        {"token": ""},
    ],
)
def test_contradictions_are_refused(keywords: Any) -> None:
    with pytest.raises(uv.InputError):
        uv.ConnectionOptions(**keywords)


def test_missing_file_and_bad_target_are_named(tmp_path: Path) -> None:
    missing = uv.ConnectionOptions(tls=True, root_certificates=tmp_path / "none.pem")
    with pytest.raises(uv.InputError, match=r"none\.pem"):
        uv.open_channel("localhost:1", missing)
    with pytest.raises(uv.InputError, match="host:port"):
        uv.open_channel(" ")
    with pytest.raises(uv.InputTypeError):
        uv.open_channel(50051)  # type: ignore[arg-type]


def test_secrets_are_not_shown() -> None:
    options = uv.ConnectionOptions(tls=True, client_key=b"k3y", client_chain=b"c", token="t0ken")
    assert "k3y" not in repr(options)
    assert "t0ken" not in repr(options)
    assert call_metadata(options) == (("authorization", "Bearer t0ken"),)


def test_message_bounds_are_explicit_and_extra_options_win() -> None:
    arguments = dict(channel_arguments(uv.ConnectionOptions(max_message_bytes=7)))
    assert arguments["grpc.max_receive_message_length"] == 7
    assert arguments["grpc.max_send_message_length"] == 7
    # Time for connecting: a few round trips of half a second.
    assert arguments["grpc.min_reconnect_backoff_ms"] >= 3_000
    # A server's default policy tolerates one ping in 5 minutes.
    assert arguments["grpc.keepalive_time_ms"] > 300_000
    extra = uv.ConnectionOptions(extra_options=(("grpc.keepalive_time_ms", 1),))
    assert dict(channel_arguments(extra))["grpc.keepalive_time_ms"] == 1


def test_methods_are_those_of_the_contract() -> None:
    from unitvec_client.core import rpcs as methods

    paths = {value.path for value in vars(methods).values() if isinstance(value, Method)}
    services = [
        pb.DESCRIPTOR.services_by_name["EmbeddingService"],
        admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
    ]
    contract = {f"/{each.full_name}/{method.name}" for each in services for method in each.methods}
    assert paths == contract | {"/grpc.health.v1.Health/Check"}
