"""Where a server is: what a caller may write as a target, made into what gRPC takes."""

from __future__ import annotations

import ipaddress
import os
import re

from unitvec_client.errors import InputError, InputTypeError

DEFAULT_PORT = 50051
DEFAULT_TARGET = f"localhost:{DEFAULT_PORT}"
"""Where a server listens by default."""

TARGET_VARIABLE = "UNITVEC_TARGET"
"""The environment variable that names the target where the caller names none."""

# gRPC core reads these three in this order, and the first of the other two.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_NO_PROXY_VARIABLES = ("no_grpc_proxy", "no_proxy")

_URL = re.compile(r"(https?|grpcs?)://([^/]*)(/*)(.*)", re.IGNORECASE)
_RESOLVED_BY_NAME = re.compile(r"(dns:(?://[^/]*/)?)(.*)")
_RESOLVED_BY_NUMBER = re.compile(r"(ipv[46]:)(.*)")
# Other schemes of gRPC, such as `unix:` and `xds:`, name no port and are left as they are.
_OTHER_SCHEME = re.compile(r"(unix|unix-abstract|vsock|xds|google-c2p):")


def resolve_target(target: str | None, *, tls: bool) -> str:
    """Return the target as gRPC takes it, with a port.

    Args:
        target: ``host:port``, a URL of these, or any target of gRPC. None takes the variable
            UNITVEC_TARGET, or the default where it is not set.
        tls: Whether the connection is to be encrypted.

    Raises:
        InputTypeError: If it is not a str.
        InputError: If it is no target, or a URL that contradicts `tls`.
    """
    if target is None:
        target = os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET
    if not isinstance(target, str):
        raise InputTypeError(f"target must be a str, not {type(target).__name__}")
    target = target.strip()
    if not target:
        raise InputError("target is empty; give host:port")
    if url := _URL.fullmatch(target):
        scheme, address, _, path = url.groups()
        _check_scheme(scheme.lower(), target, tls=tls)
        if path:
            raise InputError(
                f"target {target!r} has a path, which gRPC has no use for; leave it out"
            )
        return _with_port(address, target)
    if _OTHER_SCHEME.match(target):
        return target
    if named := _RESOLVED_BY_NAME.fullmatch(target):
        return named[1] + _with_port(named[2], target)
    if numbered := _RESOLVED_BY_NUMBER.fullmatch(target):
        addresses = numbered[2].split(",")
        return numbered[1] + ",".join(_with_port(address, target) for address in addresses)
    return _with_port(target, target)


def is_loopback(target: str) -> bool:
    """Return whether all addresses of a resolved target are of this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    return all(_is_local(host) for host in _hosts(target))


def find_proxy(target: str) -> tuple[str, str] | None:
    """Return the variable that sends connections to this target through a proxy, and its value.

    None means that there is no proxy on the way. A target of this machine never has one.
    """
    if is_loopback(target):
        return None
    variable = next((name for name in _PROXY_VARIABLES if os.environ.get(name)), None)
    if variable is None:
        return None
    exempt = next((os.environ[name] for name in _NO_PROXY_VARIABLES if os.environ.get(name)), "")
    endings = tuple(entry.strip() for entry in exempt.split(",") if entry.strip())
    if all(host.endswith(endings) for host in _hosts(target)):
        return None
    return variable, re.sub(r"//[^/@]*@", "//", os.environ[variable])  # Without its password.


def _check_scheme(scheme: str, target: str, *, tls: bool) -> None:
    if scheme in ("https", "grpcs") and not tls:
        raise InputError(
            f"target {target!r} asks for TLS: set tls=True in ConnectionOptions (--tls), "
            "or give host:port for plaintext"
        )
    if scheme == "http" and tls:
        raise InputError(f"target {target!r} says plaintext, but TLS is on; give host:port")


def _with_port(address: str, target: str) -> str:
    """Return ``host:port`` for a host with or without a port.

    Raises:
        InputError: If it is neither.
    """
    host, port = _split(address)
    if not host or re.search(r"[\s/@?#]", host):
        raise InputError(f"target {target!r} is not host:port")
    if not port:
        return f"{host}:{DEFAULT_PORT}"
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise InputError(f"target {target!r}: the port must be a number from 1 to 65535")
    return f"{host}:{port}"


def _split(address: str) -> tuple[str, str]:
    if address.startswith("["):
        host, _, rest = address.partition("]")
        return f"{host}]", rest.removeprefix(":")
    if address.count(":") > 1:  # An IPv6 address without brackets has no port.
        return f"[{address}]", ""
    host, _, port = address.partition(":")
    return host, port


def _hosts(target: str) -> list[str]:
    named = _RESOLVED_BY_NAME.fullmatch(target) or _RESOLVED_BY_NUMBER.fullmatch(target)
    addresses = (named[2] if named else target).split(",")
    return [_split(address)[0].strip("[]") for address in addresses]


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
