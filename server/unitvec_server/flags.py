"""Flags and `UNITVEC_*` variables, read in one place into a `ServerConfig`.

A flag wins over its variable, which wins over the default.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from unitvec_protos import __version__
from unitvec_server.config import HTTP_APIS, ServerConfig
from unitvec_server.errors import ConfigError

ENV_PREFIX = "UNITVEC_"

_FIELDS = {field.name: field for field in dataclasses.fields(ServerConfig)}


def parse_config(argv: Sequence[str], environ: Mapping[str, str]) -> ServerConfig:
    """Reads flags and variables.

    Raises:
        ConfigError: A flag or variable is wrong or unknown; the message names it.
        SystemExit: ``--help`` or ``--version`` was asked for.
    """
    known, unknown = _parser().parse_known_args(argv)
    if unknown:  # without its value, which may be a secret
        raise ConfigError(f"{unknown[0].partition('=')[0]}: no such flag; see --help")
    flags = {name: text for name, text in vars(known).items() if text}
    values: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        texts, origin = _lookup(name, flags, environ)
        if texts and name == "model":
            values[name] = tuple(_parse(field, text, origin) for text in texts)
        elif texts:
            values[name] = _parse(field, texts[-1], origin)
    config = ServerConfig(**values)
    _check_relations(config)
    return config


def flag(name: str) -> str:
    """Returns the flag of a field, or the variable of a secret."""
    if _FIELDS[name].metadata.get("secret"):
        return ENV_PREFIX + name.upper()
    return "--" + name.replace("_", "-")


def _lookup(
    name: str, flags: Mapping[str, list[str]], environ: Mapping[str, str]
) -> tuple[Sequence[str], str]:
    """The values given for a field, and where: each flag is one, a variable can list models."""
    variable = ENV_PREFIX + name.upper()
    if name in flags:
        return flags[name], flag(name)
    text = environ.get(variable, "")
    if name == "model":
        return _split_models(text), variable
    return ((text,) if text else ()), variable


def _split_models(text: str) -> tuple[str, ...]:
    """Splits a list at its commas, but not within the name of a folder that exists."""
    parts, items = text.split(","), []
    while parts:
        joined = [",".join(parts[:count]) for count in range(len(parts), 1, -1)]
        whole = next((item for item in joined if _is_model_folder(item)), parts[0])
        items.append(whole)
        parts = parts[whole.count(",") + 1 :]
    return tuple(item for item in items if item.strip())


def _is_model_folder(text: str) -> bool:
    return Path(text.strip()).is_dir() or Path(text.partition("=")[2].strip() or "-").is_dir()


def _parse(field: dataclasses.Field[Any], text: str, origin: str) -> Any:
    if origin in ("UNITVEC_PORT", "UNITVEC_HTTP_PORT") and "://" in text:
        service = origin.removesuffix("_PORT").lower().replace("_", "-")
        raise ConfigError(
            f"{origin} was set by Kubernetes for a Service named {service}: "
            f"set enableServiceLinks: false, or give {flag(field.name)}"
        )
    try:
        value = field.metadata["parse"](text)
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_range(value, field)
    except ConfigError as exc:
        raise ConfigError(f"{origin}: {exc}") from None
    return value


def _check_range(value: float, field: dataclasses.Field[Any]) -> None:
    low = field.metadata.get("low", 1 if field.type == "int" else 0)
    high = field.metadata.get("high", 2**53)
    if not low <= value <= high:
        raise ConfigError(f"{value} is not between {low} and {high}")


def _check_relations(config: ServerConfig) -> None:
    if not config.model:
        raise ConfigError("--model: name at least one folder made by unitvec-export")
    names = [spec.name for spec in config.model]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--model: two models are named {name!r}; write NAME=DIR")
    if (config.tls_cert is None) != (config.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key go together")
    if config.tls_client_ca and not config.tls_cert:
        raise ConfigError("--tls-client-ca needs --tls-cert and --tls-key")
    if config.http_apis != HTTP_APIS and config.http_port is None:
        raise ConfigError("--http-apis needs --http-port")
    if config.max_text_bytes > config.max_message_bytes:
        raise ConfigError(
            f"--max-text-bytes ({config.max_text_bytes}) is more than --max-message-bytes "
            f"({config.max_message_bytes}): no such text could arrive"
        )
    if config.provider == "cuda" and config.workers > 1:
        raise ConfigError("--workers: on cuda one worker runs large batches")


class _Parser(argparse.ArgumentParser):
    """Refuses with one line, since the usage of so many flags would hide the reason."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="unitvec-serve",
        description="Serves exported sentence-transformers models over gRPC and HTTP.",
        epilog=_epilog(),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"unitvec {__version__}")
    for name, field in _FIELDS.items():
        if field.metadata.get("secret"):
            continue
        default = "" if field.default in (None, ()) else f" (default {shown(field.default)})"
        parser.add_argument(
            flag(name),
            action="append",
            **_switch(field),
            metavar=name.rpartition("_")[2].upper(),
            help=field.metadata["help"] + default,
        )
    return parser


def shown(default: Any) -> str:
    """Returns the default of a field as help and docs show it."""
    return "all" if isinstance(default, tuple) else str(default).lower()


def _switch(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """Lets a boolean flag stand alone: --insecure is --insecure true."""
    return {"nargs": "?", "const": "true"} if field.type == "bool" else {}


def _epilog() -> str:
    secrets = [
        f"{flag(name)}: {field.metadata['help']}."
        for name, field in _FIELDS.items()
        if field.metadata.get("secret")
    ]
    plain = f"Every flag is also a variable: --max-text-bytes is {ENV_PREFIX}MAX_TEXT_BYTES."
    return " ".join([plain, "Only a variable, since command lines can be read:", *secrets])


def read_config(argv: Sequence[str]) -> ServerConfig:
    """Reads flags and the variables of this process, as `parse_config` does."""
    return parse_config(argv, os.environ)
