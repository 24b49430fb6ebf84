"""Which names a server answers to: no page of another site may speak for whoever uses this machine.

A browser lets a page read what comes from the place that the page itself came from, and takes a
place for the same as long as its name is. The owner of a name can let it lead to a server of theirs
first and to 127.0.0.1 a moment later (DNS rebinding). A page of theirs then reads what listens on
the loopback of its reader's machine, where nothing asks for a token. The header Host still has the
name that the page came by. A name that leads nowhere else, or an address, cannot be turned so.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable

from unitvec_server.errors import InvalidRequest
from unitvec_server.security.secrets import is_loopback

HostCheck = Callable[[str], None]
"""Refuses requests by their header Host, which is empty where there is none."""


def allow_any_host(given: str) -> None:
    """Refuses none."""


def host_check(host: str, *, is_guarded: bool) -> HostCheck:
    """Chooses what is refused at an address.

    Tokens keep out pages of other sites, which have none, and so does TLS, since their names are
    not those of the certificate. An address that other machines reach has names that only its
    operator knows.

    Args:
        host: The address that is listened on.
        is_guarded: Whether there are tokens or TLS, or the flag `insecure` says that none are
            wanted.

    Raises:
        OSError: The address cannot be resolved.
    """
    if is_guarded or not is_loopback(host):
        return allow_any_host
    return functools.partial(check_host, listened=host)


def check_host(given: str, *, listened: str) -> None:
    """Refuses names that may lead elsewhere. Browsers always give one; those who do not are none.

    Args:
        given: The header Host.
        listened: The address that is listened on, which may be a name.

    Raises:
        InvalidRequest: The name is another.
    """
    name = _without_port(given).lower().removesuffix(".")
    is_local = name in ("localhost", listened.lower()) or name.endswith(".localhost")
    if given and not is_local and not _is_address(name):
        raise InvalidRequest(
            f"this server does not answer to the name {name[:100]!r}: on loopback it answers to "
            "localhost and to addresses alone, since pages of other sites could come by another "
            "name; ask for localhost, or let the proxy before it set the header Host so "
            "(docs/operations/security.md)",
            reason="FOREIGN_HOST",
        )


def _without_port(authority: str) -> str:
    """The name or address, without the brackets of one of IPv6."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
