"""Flags, `UNITVEC_*` variables and defaults, read in one place into one frozen object.

A flag wins over its variable, which wins over the default. Every field of `ServerConfig` is
a flag: `max_text_bytes` is ``--max-text-bytes`` and ``UNITVEC_MAX_TEXT_BYTES``. Secrets have no
flag, since every user of the machine can read command lines.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from unitvec_protos import __version__
from unitvec_server.errors import ConfigError

ENV_PREFIX = "UNITVEC_"

PROVIDERS = ("auto", "cpu", "openvino", "cuda")
PRECISIONS = ("auto", "fp32", "int8", "bf16", "fp16")
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


def _secret(default: Any, text: str, parse: Callable[[str], Any]) -> Any:
    metadata = {"help": text, "parse": parse, "secret": True}
    return dataclasses.field(default=default, metadata=metadata, repr=False)


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


def _tokens(text: str) -> tuple[str, ...]:
    tokens = tuple(text.replace(",", " ").split())
    if not tokens:
        raise ConfigError("holds no token")
    return tokens


def _model(text: str) -> ModelSpec:
    """Reads [NAME=]DIR; a folder that exists is one, whatever characters its name has."""
    if text and Path(text).is_dir():
        return ModelSpec(Path(text).resolve().name, Path(text))
    name, equals, folder = (part.strip() for part in text.partition("="))
    if not equals or name.startswith(("/", ".")):
        name, folder = "", text.strip()
    if not folder.strip(","):
        raise ConfigError(f"{text!r} names no folder")
    return ModelSpec(name or Path(folder).resolve().name, Path(folder))


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


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """All settings. `parse_config` makes a checked one."""

    model: tuple[ModelSpec, ...] = _option(
        (), "[NAME=]DIR of an exported model; again for more, the first is the default", _model
    )
    host: str = _option(
        "127.0.0.1", "address to listen on; other than loopback it needs TLS and tokens"
    )
    port: int = _option(50051, "port to listen on; 0 takes a free one", _integer, low=0, high=65535)
    provider: str = _option(
        "auto",
        "where graphs run: cpu, openvino or cuda; auto is the fastest that is here",
        _choice(*PROVIDERS),
    )
    precision: str = _option(
        "auto",
        "fp32, int8, bf16 (openvino) or fp16 (cuda); auto is the fastest near-lossless one",
        _choice(*PRECISIONS),
    )
    workers: int = _option(
        0, "runs side by side; 0 takes the usable CPUs, or 1 on cuda", _integer, low=0, high=1024
    )
    max_batch_tokens: int = _option(
        0,
        "tokens in one run, padding included; 0 measures at start what is fastest",
        _integer,
        low=0,
    )
    cache_bytes: int = _option(
        0,
        "bytes of memory for vectors of texts seen lately, of all models; 0 is none",
        _integer,
        low=0,
    )
    max_connections: int = _option(
        16_384, "connections at a time; beyond it new ones are closed", _integer, high=2**31 - 1
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
    max_corpora_bytes: int = _option(
        2**30,
        "bytes of vectors that all StreamSimilarity hold together; beyond it documents are refused",
        _integer,
    )
    max_message_bytes: int = _option(
        16 * 2**20, "bytes in one message, either way", _integer, high=2**31 - 1
    )
    max_connection_age_s: float = _option(
        3600.0, "age at which connections are renewed, give or take a tenth; 0 for never", _seconds
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
    tokens: tuple[str, ...] = _secret(
        (), "accepted bearer tokens, between commas, beside those of the file", _tokens
    )
    insecure: bool = _option(
        False, "listen on any address without TLS or tokens: true or false", _boolean
    )
    reflection: bool = _option(True, "answer gRPC reflection: true or false", _boolean)
    metrics_port: int | None = _option(
        None,
        "port of Prometheus metrics over HTTP; 0 takes a free one; without it there are none",
        _integer,
        low=0,
        high=65535,
    )
    metrics_host: str = _option(
        "127.0.0.1", "address of the metrics, which have neither TLS nor tokens"
    )
    tracing: bool = _option(
        False, "export OpenTelemetry traces, as the variables OTEL_* say: true or false", _boolean
    )
    log_format: str = _option(
        "auto", "text, json, or auto: text on a terminal, else json", _choice(*LOG_FORMATS)
    )
    log_level: str = _option("info", "debug, info, warning or error", _choice(*LOG_LEVELS))


@dataclasses.dataclass(frozen=True)
class FixedLimits:
    """Limits without a flag. ListModels tells clients the ones that they can reach.

    Attributes:
        max_stream_requests: Requests of one stream in work; beyond it the stream is not read.
        max_stream_documents: Documents of one StreamSimilarity.
        max_stream_bytes: Bytes of vectors that one StreamSimilarity holds.
        max_comparisons: Comparisons in one request: queries times documents.
        max_scores: Scores in one reply.
        max_stream_idle_s: Silence of a client after which its stream is ended.
        stuck_after_s: Time after which a thread that hangs ends the server, with status 3.
    """

    max_stream_requests: int = 64
    max_stream_documents: int = 100_000
    max_stream_bytes: int = 512 * 2**20
    max_comparisons: int = 100_000_000
    max_scores: int = 1_000_000
    max_stream_idle_s: float = 600.0
    stuck_after_s: float = 20.0


FIXED_LIMITS = FixedLimits()
"""The limits of every server; tests use others."""

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


class _Parser(argparse.ArgumentParser):
    """Refuses with one line, since the usage of so many flags would hide the reason."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="unitvec-serve",
        description="Serves exported sentence-transformers models over gRPC.",
        epilog=_epilog(),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"unitvec {__version__}")
    for name, field in _FIELDS.items():
        if field.metadata.get("secret"):
            continue
        shown = "" if field.default in (None, ()) else f" (default {str(field.default).lower()})"
        parser.add_argument(
            flag(name),
            action="append",
            **_switch(field),
            metavar=name.rpartition("_")[2].upper(),
            help=field.metadata["help"] + shown,
        )
    return parser


def _switch(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """Lets a boolean flag stand alone: --insecure is --insecure true."""
    return {"nargs": "?", "const": "true"} if field.metadata["parse"] is _boolean else {}


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
