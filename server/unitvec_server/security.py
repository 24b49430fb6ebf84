"""Who may call: bearer tokens and TLS."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path

import grpc

from unitvec_server.config import ServerConfig
from unitvec_server.errors import ConfigError, Unauthenticated

TokenCheck = Callable[[str | bytes | None], None]


def make_token_check(token_file: Path | None) -> TokenCheck:
    """A check of the `authorization` metadata; lets everyone pass if there is no file.

    Raises:
        ConfigError: The file cannot be read or holds no token.
    """
    if token_file is None:
        return lambda _: None
    expected = [f"Bearer {token}".encode() for token in _read_tokens(token_file)]

    def check(authorization: str | bytes | None) -> None:
        given = authorization.encode() if isinstance(authorization, str) else authorization or b""
        # Every token is compared, in constant time each, whichever matches.
        if not sum([hmac.compare_digest(given, token) for token in expected]):
            raise Unauthenticated(
                'no valid token; send it as metadata "authorization: Bearer TOKEN"',
            )

    return check


def server_credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """TLS credentials, or None for plaintext.

    Raises:
        ConfigError: A file cannot be read.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    pair = (_read(config.tls_key, "--tls-key"), _read(config.tls_cert, "--tls-cert"))
    authorities = _read(config.tls_client_ca, "--tls-client-ca") if config.tls_client_ca else None
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authorities, require_client_auth=authorities is not None
    )


def _read_tokens(path: Path) -> list[str]:
    lines = _read(path, "--token-file").decode("utf-8", "replace").splitlines()
    tokens = [line.strip() for line in lines if line.strip()]
    if not tokens:
        raise ConfigError(f"--token-file: {path} holds no token")
    return tokens


def _read(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{flag}: {path} cannot be read: {exc.strerror}") from exc
