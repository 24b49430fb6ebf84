"""TLS, mutual TLS and bearer tokens, with certificates made on the spot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from unitvec_client import Client, ConnectionOptions, UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from tests.e2e.conftest import Server

Start = Callable[..., "Server"]


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key: (cert, key) paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_path, key_path


def embed(server: Server, **options: object) -> int:
    """Embeds one text over a connection with these options; its rows."""
    connection = ConnectionOptions(**options)  # type: ignore[arg-type]
    with Client(server.target, connection=connection, timeout_s=20) as client:
        return len(client.embed(["a cat"]))


def test_token(start: Start, artifact: Path, tmp_path: Path) -> None:
    """Any token of the file opens; none or a wrong one does not; health needs none."""
    tokens = tmp_path / "tokens"
    tokens.write_text("old-token\nnew-token\n")
    server = start("--model", str(artifact), "--token-file", str(tokens))
    assert embed(server, token="old-token") == embed(server, token="new-token") == 1
    for wrong in ({}, {"token": "no-token"}, {"token": "old-toke"}):
        with pytest.raises(UnauthenticatedError):
            embed(server, **wrong)
    with Client(server.target) as client:
        assert client.health() == "SERVING"


def test_tls(start: Start, artifact: Path, tmp_path: Path) -> None:
    """The server's certificate is verified, and plaintext is not answered."""
    cert, key = write_certificate(tmp_path, "server")
    server = start("--model", str(artifact), "--tls-cert", str(cert), "--tls-key", str(key))
    trusted = {"tls": True, "root_certificates": cert, "server_name": "localhost"}
    assert embed(server, **trusted) == 1
    stranger, _ = write_certificate(tmp_path, "stranger")
    with pytest.raises(UnavailableError):
        embed(server, tls=True, root_certificates=stranger, server_name="localhost")
    with pytest.raises(UnavailableError):
        embed(server)


def test_mutual_tls(start: Start, artifact: Path, tmp_path: Path) -> None:
    """Only clients with a certificate of the named authority get in."""
    cert, key = write_certificate(tmp_path, "server")
    client_cert, client_key = write_certificate(tmp_path, "client")
    server = start(
        *("--model", str(artifact), "--tls-cert", str(cert), "--tls-key", str(key)),
        *("--tls-client-ca", str(client_cert)),
    )
    trusted = {"tls": True, "root_certificates": cert, "server_name": "localhost"}
    assert embed(server, **trusted, client_key=client_key, client_chain=client_cert) == 1
    with pytest.raises(UnavailableError):
        embed(server, **trusted)
