"""Bearer tokens, TLS, and the addresses that a server without them may listen on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc

from unitvec_server.config import ServerConfig
from unitvec_server.errors import ConfigError, Unauthenticated
from unitvec_server.flags import flag
from unitvec_server.security.certificates import Certificates, TlsFiles, read_file

logger = logging.getLogger(__name__)

TokenCheck = Callable[[str | bytes | None], None]

_LOOK_EVERY_S = 5.0
"""Time between two looks at the files. The kubelet itself takes up to a minute to replace one."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # b64token of RFC 6750
_SCHEME = b"bearer "


class Tokens:
    """The accepted bearer tokens, of which only digests are kept.

    Args:
        given: The tokens of the environment, which stay for good.
        path: A file of more tokens, one a line, without empty lines and those that start with #.
        origin: The flag that names the file.

    Raises:
        ConfigError: The file cannot be read or holds no token, or a token is malformed.
    """

    def __init__(
        self, given: Iterable[str], path: Path | None, *, origin: str = "--token-file"
    ) -> None:
        self._given = [_digest_token(token, flag("tokens")) for token in given]
        self._path, self._origin = path, origin
        self._digests = self._given + self._read()

    def __len__(self) -> int:
        return len(self._digests)

    def check(self, authorization: str | bytes | None) -> None:
        """Checks the `authorization` metadata of a call. Without tokens every call passes.

        Raises:
            Unauthenticated: The metadata carries no token, or a wrong one.
        """
        accepted = self._digests
        if accepted and not _matches(authorization, accepted):
            raise Unauthenticated('no valid token; send it as "authorization: Bearer TOKEN"')

    def reload(self) -> bool:
        """Reads the file again, for calls that begin from now on.

        Returns:
            Whether the tokens have changed.

        Raises:
            ConfigError: The file cannot be used; the old tokens stay.
        """
        before, self._digests = self._digests, self._given + self._read()
        return before != self._digests

    def _read(self) -> list[bytes]:
        if self._path is None:
            return []
        lines = read_file(self._path, self._origin).decode("utf-8", "replace").splitlines()
        tokens = [line.strip() for line in lines]
        tokens = [token for token in tokens if token and not token.startswith("#")]
        if not tokens:
            raise ConfigError(f"{self._origin}: {self._path} holds no token")
        return [_digest_token(token, self._origin) for token in tokens]


def _digest_token(token: str, origin: str) -> bytes:
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"{origin}: a token may hold letters, digits and -._~+/ only; make one with "
            "openssl rand -hex 32"
        )
    return hashlib.sha256(token.encode()).digest()


def _matches(authorization: str | bytes | None, accepted: list[bytes]) -> bool:
    header = (
        authorization.encode(errors="replace")
        if isinstance(authorization, str)
        else authorization or b""
    )
    scheme, token = header[: len(_SCHEME)], header[len(_SCHEME) :].strip()
    digest = hashlib.sha256(token).digest()
    # All digests are compared, so that the time tells nothing about the tokens.
    matches = sum([hmac.compare_digest(digest, each) for each in accepted])
    return scheme.lower() == _SCHEME and matches > 0


class Secrets:
    """Tokens and certificates, and their renewal while serving.

    Args:
        config: The configuration, which names the files. They are read at once.

    Raises:
        ConfigError: A file cannot be used.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._tokens = Tokens(config.tokens, config.token_file)
        self._certificates: Certificates | None = None
        if config.tls_cert and config.tls_key:
            files = TlsFiles(config.tls_cert, config.tls_key, config.tls_client_ca)
            self._certificates = Certificates(files)
        self._reloads: dict[str, Callable[[], bool]] = {}
        if config.token_file:
            self._reloads["tokens"] = self._tokens.reload
        self._admins: Tokens | None = None
        if config.admin_token_file:
            self._admins = Tokens((), config.admin_token_file, origin=flag("admin_token_file"))
            self._reloads["admin tokens"] = self._admins.reload
        if self._certificates:
            self._reloads["certificate"] = self._certificates.reload
        self._complaints: dict[str, str] = {}

    @property
    def check_token(self) -> TokenCheck:
        """The function that refuses calls without a valid token."""
        return self._tokens.check

    @property
    def check_admin(self) -> TokenCheck | None:
        """The function that refuses calls without a token of an operator; None without such."""
        return self._admins.check if self._admins else None

    @property
    def certificate_not_after_s(self) -> float | None:
        """The time at which the certificate expires, in seconds since 1970; None without TLS."""
        return self._certificates.not_after_s if self._certificates else None

    def credentials(self) -> grpc.ServerCredentials | None:
        """Returns the TLS credentials; None without TLS."""
        return self._certificates.credentials() if self._certificates else None

    def context(self) -> ssl.SSLContext | None:
        """Returns the TLS context for HTTP; None without TLS."""
        return self._certificates.context() if self._certificates else None

    def reload(self, *, asked: bool) -> None:
        """Reads files that were replaced. If one cannot be used, the old one stays in use.

        Args:
            asked: Whether an operator asked for it, who is told even if nothing is new.
        """
        for what, reload in self._reloads.items():
            try:
                renewed = reload()
            except ConfigError as exc:
                self._complain(what, str(exc), again=asked)
                continue
            self._complaints.pop(what, None)
            if renewed:
                logger.info("%s reloaded", what)
            elif asked:
                logger.info("%s read again: nothing new", what)
        if asked and not self._reloads:
            logger.info("no secrets to reload: there is neither --tls-cert nor a file of tokens")

    async def keep_fresh(self, asked: asyncio.Event) -> None:
        """Reloads when it is asked to, and soon after files were replaced, until it is cancelled.

        Args:
            asked: The event that asks for it.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), _LOOK_EVERY_S if self._reloads else None)
            by_request = asked.is_set()
            asked.clear()
            # The files may lie on a file system that hangs, so the event loop does not read them.
            await asyncio.to_thread(self.reload, asked=by_request)

    def _complain(self, what: str, message: str, *, again: bool) -> None:
        if again or self._complaints.get(what) != message:
            logger.error("%s not reloaded, the old stays in use: %s", what, message)
        self._complaints[what] = message


def check_exposure(config: ServerConfig) -> None:
    """Refuses to let other machines reach a server without TLS, or one that anyone may use.

    Tokens or certificates of clients decide who may use it. The flag `insecure` allows both.

    Raises:
        ConfigError: Other machines can reach the address and a protection is missing.
        OSError: The address cannot be resolved.
    """
    lacking = []
    if not config.tls_cert:
        lacking.append("TLS (--tls-cert, --tls-key)")
    if not (config.wants_token or config.tls_client_ca):
        lacking.append(f"tokens (--token-file or {flag('tokens')})")
    if not lacking or is_loopback(config.host):
        return
    reach = f"--host {config.host} is reachable from other machines, without {', '.join(lacking)}"
    if not config.insecure:
        raise ConfigError(f"{reach}: add what lacks, listen on 127.0.0.1, or say --insecure")
    logger.warning("%s: --insecure allows it", reach)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    Raises:
        OSError: The address cannot be resolved.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)
