"""Connection options as JSON, for frameworks that store how a provider was made."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from unitvec_client.connection import ConnectionOptions
from unitvec_client.errors import InputError


def to_config(connection: ConnectionOptions | None) -> dict[str, Any] | None:
    """Return what differs from the defaults, ready for JSON; nothing of it is secret.

    Raises:
        InputError: If it holds a token, or PEM data in place of a file's path.
    """
    if connection is None:
        return None
    if connection.token is not None:
        raise InputError("a token of `connection` is not stored; name the variable that holds it")
    config: dict[str, Any] = {}
    for field in fields(ConnectionOptions):
        value = getattr(connection, field.name)
        if value != field.default:
            config[field.name] = _to_json(field.name, value)
    return config


def from_config(config: dict[str, Any] | None) -> ConnectionOptions | None:
    """Return the options that `to_config` made this of.

    Raises:
        InputError: If they contradict each other.
        TypeError: If one of them is unknown.
    """
    if config is None:
        return None
    pairs = tuple((name, value) for name, value in config.get("extra_options", ()))
    return ConnectionOptions(**{**config, "extra_options": pairs})


def _to_json(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        raise InputError(f"connection.{name} is not stored as PEM data; give the path of a file")
    if name == "extra_options":
        return [list(pair) for pair in value]
    return value if isinstance(value, (str, bool, int, float)) else str(value)
