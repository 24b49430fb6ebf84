"""TLS: the certificate, its key and the authorities of clients, which may change while serving.

gRPC asks before each handshake whether there is a new configuration, and over HTTP each handshake
takes the newest context. Each configuration is tried first with a handshake in memory, because a
fault would else be found only when the next client connects.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from unitvec_server.errors import ConfigError


@dataclass(frozen=True)
class TlsFiles:
    """The paths of the PEM files.

    Attributes:
        certificate: The file of the server's certificate, followed by its intermediates.
        key: The file of its private key, which has no passphrase.
        client_authorities: The file of the authorities that sign certificates of clients; None if
            clients need no certificate.
    """

    certificate: Path
    key: Path
    client_authorities: Path | None = None


@dataclass(frozen=True, repr=False)
class _Pem:
    certificate: bytes
    key: bytes
    client_authorities: bytes | None


class Certificates:
    """The certificates that handshakes use. The methods may be called from any thread.

    Args:
        files: The files, which are read at once.

    Raises:
        ConfigError: The files cannot be read or used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._seen = _read_all(files)
        self._next: _Pem | None = None
        self._not_after_s = _prove(files)
        self._newest = _server_context(files)

    @property
    def not_after_s(self) -> float:
        """The time at which the first certificate in use expires, in seconds since 1970."""
        return self._not_after_s

    def credentials(self) -> grpc.ServerCredentials:
        """Returns the credentials for a port. They follow every later `reload`."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._seen),
            self._take_next,  # type: ignore[arg-type]  # gRPC takes None as no change.
            require_client_authentication=self._files.client_authorities is not None,
        )

    def context(self) -> ssl.SSLContext:
        """Returns a context for HTTP/1.1 servers. Its handshakes follow every later `reload`."""
        context = _server_context(self._files)

        def take_newest(handshake: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
            handshake.context = self._newest

        context.sni_callback = take_newest  # which is called whether or not there is a name
        return context

    def reload(self) -> bool:
        """Reads the files again, for connections that are made from now on.

        Returns:
            Whether the files are new and in use.

        Raises:
            ConfigError: The files cannot be read or used; the old ones stay in use.
        """
        pem = _read_all(self._files)
        if pem == self._seen:
            return False
        not_after_s = _prove(self._files)
        newest = _server_context(self._files)
        if _read_all(self._files) != pem:
            raise ConfigError("--tls-cert, --tls-key: replaced while they were read")
        with self._lock:
            self._seen = self._next = pem
            self._not_after_s = not_after_s
        self._newest = newest
        return True

    def _take_next(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            pem, self._next = self._next, None
        return None if pem is None else _configuration(pem)


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context of files that were proved."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key, password="")
    context.set_alpn_protocols(["http/1.1"])
    if files.client_authorities is not None:
        context.load_verify_locations(cafile=files.client_authorities)
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would let a client in whose authority is no longer there.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _configuration(pem: _Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pem.key, pem.certificate)], root_certificates=pem.client_authorities
    )


def _read_all(files: TlsFiles) -> _Pem:
    authorities = files.client_authorities
    return _Pem(
        read_file(files.certificate, "--tls-cert"),
        read_file(files.key, "--tls-key"),
        None if authorities is None else read_file(authorities, "--tls-client-ca"),
    )


def read_file(path: Path, flag: str) -> bytes:
    """Returns the content of a file that a flag names.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{flag}: {path} cannot be read: {exc.strerror}") from exc


def _prove(files: TlsFiles) -> float:
    """Checks that the key fits, that the certificate is valid today and that a client accepts it.

    Returns:
        The time at which the first of the certificates expires, in seconds since 1970.
    """
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Without a password here, OpenSSL would ask for one on the terminal.
        server.load_cert_chain(files.certificate, files.key, password="")
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        client.load_verify_locations(cafile=files.certificate)
        shown = _shake_hands(client, server)
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise ConfigError(
            f"--tls-cert, --tls-key: {files.certificate} and {files.key} are not a usable "
            f"PEM certificate and its key: {_reason(exc)}"
        ) from exc
    _prove_authorities(files.client_authorities)
    # The client trusts the whole file, so its authorities include the intermediates.
    return min(
        ssl.cert_time_to_seconds(each["notAfter"]) for each in (shown, *client.get_ca_certs())
    )


def _prove_authorities(path: Path | None) -> None:
    if path is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise ConfigError(
            f"--tls-client-ca: {path} holds no usable PEM certificates: {_reason(exc)}"
        ) from exc


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    """Returns the server's certificate as the client saw it."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server)
    ends = [caller, server.wrap_bio(to_server, to_client, server_side=True)]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
    shown = caller.getpeercert()
    assert shown  # it was verified
    return shown


def _reason(exc: Exception) -> str:
    """Returns the reason in a few words, without OpenSSL's function names and line numbers."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    reason = getattr(exc, "reason", None)
    return reason.replace("_", " ").lower() if reason else "no certificate and key in them"
