"""Certificates made on the spot."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Pair(NamedTuple):
    """Where a certificate and its key are."""

    certificate: Path
    key: Path


def write_certificate(
    folder: Path,
    name: str,
    *,
    valid_days: tuple[float, float] = (-1, 1),
    passphrase: bytes | None = None,
) -> Pair:
    """A self-signed certificate for localhost and its key, over what was there before.

    Args:
        folder: Where to.
        name: Of the subject and of both files.
        valid_days: First and last day, from now.
        passphrase: Of the key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(_sign(key, name, valid_days))
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption(),
        )
    )
    return pair


def not_after_s(pair: Pair) -> float:
    """When the certificate expires, in seconds since 1970."""
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    return certificate.not_valid_after_utc.timestamp()


def _sign(key: ec.EllipticCurvePrivateKey, name: str, valid_days: tuple[float, float]) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    first, last = (dt.datetime.now(dt.UTC) + dt.timedelta(days=days) for days in valid_days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
