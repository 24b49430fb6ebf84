"""Flags, `UNITVEC_*` variables and defaults, read in one place into one frozen object.

A flag wins over its variable, which wins over the default. Every field of `ServerConfig` is
a flag: `max_text_bytes` is ``--max-text-bytes`` and ``UNITVEC_MAX_TEXT_BYTES``.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unitvec_protos import __version__
from unitvec_server.errors import ConfigError

ENV_PREFIX = "UNITVEC_"

PROVIDERS = ("cpu", "cuda")
PRECISIONS = ("auto", "fp32", "int8", "fp16")
LOG_FORMATS = ("auto", "text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model to serve: its name in requests and its folder."""

    name: str
    folder: Path


def _option(default: Any, text: str, parse: Callable[[str], Any] = str, **extra: Any) -> Any:
    metadata = {"help": text, "parse": parse, **extra}
    return dataclasses.field(default=default, metadata=metadata)


def _integer(text: str) -> int:
    try:
        return int(text.replace("_", ""))
    except ValueError:
        raise ConfigError(f"{text!r} is not a whole number") from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a number of seconds") from None


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ConfigError(f"{text!r} is neither true nor false")
    return words[text.lower()]


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ConfigError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return parse


def _models(text: str) -> tuple[ModelSpec, ...]:
    return tuple(_model(part) for part in text.split(",") if part)


def _model(text: str) -> ModelSpec:
    name, equals, folder = text.partition("=")
    if not equals:
        name, folder = "", text
    if not folder:
        raise ConfigError(f"{text!r} names no folder")
    return ModelSpec(name or Path(folder).resolve().name, Path(folder))


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """Everything that can be set. `parse_config` makes a validated one."""

    model: tuple[ModelSpec, ...] = _option(
        (), "[NAME=]DIR of an exported model; again for more, the first is the default", _models
    )
    host: str = _option("127.0.0.1", "address to listen on; 0.0.0.0 for every IPv4 interface")
    port: int = _option(50051, "port to listen on; 0 takes a free one", _integer, low=0, high=65535)
    provider: str = _option("cpu", "where graphs run: cpu or cuda", _choice(*PROVIDERS))
    precision: str = _option(
        "auto",
        "fp32, int8 or fp16; auto is fp16 on cuda where exported, else fp32",
        _choice(*PRECISIONS),
    )
    device_id: int = _option(0, "which CUDA device", _integer, low=0)
    workers: int = _option(
        0, "runs side by side; 0 takes the usable CPUs, or 1 on cuda", _integer, low=0, high=1024
    )
    max_batch_tokens: int = _option(
        0,
        "tokens in one run, padding included; 0 measures at start what is fastest",
        _integer,
        low=0,
    )
    max_calls: int = _option(
        1024, "calls and streams in work at a time; beyond it calls are refused", _integer
    )
    max_texts_per_request: int = _option(1024, "texts in one request or message", _integer)
    max_text_bytes: int = _option(262_144, "UTF-8 bytes in one text", _integer)
    max_queued_tokens: int = _option(
        524_288,
        "tokens waiting or running, half of it for streams; beyond it calls are refused",
        _integer,
    )
    max_stream_requests: int = _option(
        64, "requests of one stream in work; beyond it the stream is not read", _integer
    )
    max_stream_documents: int = _option(100_000, "documents of one StreamSimilarity", _integer)
    max_stream_bytes: int = _option(
        512 * 2**20, "bytes of vectors that one StreamSimilarity holds", _integer
    )
    max_comparisons: int = _option(
        100_000_000, "comparisons in one request: queries times documents", _integer
    )
    max_scores: int = _option(1_000_000, "scores in one reply: queries times documents", _integer)
    max_message_bytes: int = _option(
        16 * 2**20, "bytes in one message, either way", _integer, high=2**31 - 1
    )
    grace_s: float = _option(30.0, "time to finish what is in flight after SIGTERM", _seconds)
    tls_cert: Path | None = _option(None, "PEM certificate chain; turns TLS on", Path)
    tls_key: Path | None = _option(None, "PEM private key of the certificate", Path)
    tls_client_ca: Path | None = _option(
        None, "PEM authorities; clients must show a certificate of theirs", Path
    )
    token_file: Path | None = _option(
        None, "file of accepted bearer tokens, one a line; calls must carry one", Path
    )
    reflection: bool = _option(True, "answer gRPC reflection: true or false", _boolean)
    log_format: str = _option(
        "auto", "text, json, or auto: text on a terminal, else json", _choice(*LOG_FORMATS)
    )
    log_level: str = _option("info", "debug, info, warning or error", _choice(*LOG_LEVELS))


_FIELDS = {field.name: field for field in dataclasses.fields(ServerConfig)}


def parse_config(argv: Sequence[str], environ: Mapping[str, str]) -> ServerConfig:
    """Reads flags and variables.

    Raises:
        ConfigError: One is wrong; the message names it.
        SystemExit: ``--help``, ``--version`` or an unknown flag.
    """
    flags = {name: text for name, text in vars(_parser().parse_args(argv)).items() if text}
    values: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        text, origin = _lookup(name, flags, environ)
        if text is not None:
            values[name] = _parse(field, text, origin)
    config = ServerConfig(**values)
    _check_relations(config)
    return config


def flag(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def _lookup(
    name: str, flags: Mapping[str, list[str]], environ: Mapping[str, str]
) -> tuple[str | None, str]:
    variable = ENV_PREFIX + name.upper()
    if name in flags:
        return (",".join(flags[name]) if name == "model" else flags[name][-1]), flag(name)
    return environ.get(variable) or None, variable


def _parse(field: dataclasses.Field[Any], text: str, origin: str) -> Any:
    if origin == "UNITVEC_PORT" and "://" in text:
        raise ConfigError(
            "UNITVEC_PORT was set by Kubernetes for a Service named unitvec: "
            "set enableServiceLinks: false, or give --port"
        )
    try:
        value = field.metadata["parse"](text)
        if field.metadata["parse"] in (_integer, _seconds):
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
    if config.max_text_bytes > config.max_message_bytes:
        raise ConfigError(
            f"--max-text-bytes ({config.max_text_bytes}) is more than --max-message-bytes "
            f"({config.max_message_bytes}): no such text could arrive"
        )
    if config.provider == "cuda" and config.workers > 1:
        raise ConfigError("--workers: on cuda one worker runs large batches")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unitvec-serve",
        description="Serves exported sentence-transformers models over gRPC.",
        epilog=f"Every flag is also a variable: --max-text-bytes is {ENV_PREFIX}MAX_TEXT_BYTES.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"unitvec {__version__}")
    for name, field in _FIELDS.items():
        shown = "" if field.default in (None, ()) else f" (default {str(field.default).lower()})"
        parser.add_argument(
            flag(name),
            action="append",
            metavar=name.rpartition("_")[2].upper(),
            help=field.metadata["help"] + shown,
        )
    return parser


def read_config(argv: Sequence[str]) -> ServerConfig:
    """`parse_config` over this process's environment."""
    return parse_config(argv, os.environ)
