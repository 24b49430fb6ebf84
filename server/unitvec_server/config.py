"""All settings of the server, in two frozen objects.

Every field of `ServerConfig` is a flag, which its metadata describe: `max_text_bytes` is
``--max-text-bytes`` and ``UNITVEC_MAX_TEXT_BYTES``. Secrets have no flag, since every user of the
machine can read command lines. `FixedLimits` have neither flag nor variable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unitvec_server.errors import ConfigError

PROVIDERS = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "int16", "bf16", "int8", "fp16")
LOG_FORMATS = ("auto", "text", "json")
HTTP_APIS = ("openai", "tei", "cohere", "weaviate", "metrics", "docs", "page")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model to serve: its name in requests and its folder, or what to export."""

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


def _apis(text: str) -> tuple[str, ...]:
    names = tuple(text.replace(",", " ").split())
    for name in names:
        if name not in HTTP_APIS:
            raise ConfigError(f"{name!r} is not one of {', '.join(HTTP_APIS)}")
    if "page" in names and "openai" not in names:
        raise ConfigError("page calls openai; serve both, or neither")
    return names


def _model(text: str) -> ModelSpec:
    """Reads [NAME=]MODEL; a folder that exists is one, whatever characters its name has."""
    if text and Path(text).is_dir():
        return ModelSpec(Path(text).resolve().name, Path(text))
    name, equals, folder = (part.strip() for part in text.partition("="))
    if not equals or name.startswith(("/", ".")):
        name, folder = "", text.strip()
    if not folder.strip(","):
        raise ConfigError(f"{text!r} names no folder")
    return ModelSpec(name or Path(folder).resolve().name.partition("@")[0], Path(folder))


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """All settings with a flag. `flags.parse_config` makes a checked one."""

    model: tuple[ModelSpec, ...] = _option(
        (),
        "[NAME=]MODEL, again for more, the first is the default: the folder of an exported model, "
        "or the hub id (ID@REVISION) or folder of one to export on first use",
        _model,
    )
    host: str = _option(
        "127.0.0.1", "address to listen on; other than loopback it needs TLS and tokens"
    )
    port: int = _option(50051, "port to listen on; 0 takes a free one", _integer, low=0, high=65535)
    provider: str = _option(
        "auto",
        "where graphs run: cpu or cuda; auto is the fastest that is here",
        _choice(*PROVIDERS),
    )
    precision: str = _option(
        "auto",
        "fp32, int16, bf16, int8 or fp16 (cuda); auto is the fastest near-lossless one",
        _choice(*PRECISIONS),
    )
    workers: int = _option(
        0, "runs side by side; 0 takes the usable CPUs, or 1 on cuda", _integer, low=0, high=1024
    )
    max_batch_tokens: int = _option(
        0,
        "tokens in one run, padding included; 0 takes the fastest, measured at start if need be",
        _integer,
        low=0,
    )
    self_test: bool = _option(
        True,
        "before serving, hold vectors of a few texts against those of the export: true or false",
        _boolean,
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
    max_texts_per_request: int = _option(2048, "texts in one request or message", _integer)
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
    admin_token_file: Path | None = _option(
        None,
        "file of the bearer tokens of operators, one a line; opens unitvec.v1.AdminService to them",
        Path,
    )
    insecure: bool = _option(
        False,
        "listen on any address, under any name, without TLS or tokens: true or false",
        _boolean,
    )
    reflection: bool = _option(True, "answer gRPC reflection: true or false", _boolean)
    grpc_tei: bool = _option(
        True,
        "answer tei.v1, as clients of text-embeddings-inference call it: true or false",
        _boolean,
    )
    grpc_oip: bool = _option(
        True,
        "answer the Open Inference Protocol, as clients of Triton call it: true or false",
        _boolean,
    )
    http_port: int | None = _option(
        None,
        "port of the HTTP APIs, on the same address; 0 takes a free one; without it there are none",
        _integer,
        low=0,
        high=65535,
    )
    http_apis: tuple[str, ...] = _option(
        HTTP_APIS, f"which of them, between commas: {', '.join(HTTP_APIS)}", _apis
    )
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

    @property
    def wants_token(self) -> bool:
        """Whether callers must show a token."""
        return bool(self.token_file or self.tokens)


@dataclasses.dataclass(frozen=True)
class FixedLimits:
    """Limits without a flag. ListModels tells clients the ones that they can reach.

    Attributes:
        max_stream_requests: Requests of one stream in work; beyond it the stream is not read.
        max_windows_per_request: Windows that the texts of one request are cut into.
        max_stream_documents: Documents of one StreamSimilarity.
        max_stream_bytes: Bytes of vectors that one StreamSimilarity holds.
        max_comparisons: Comparisons in one request: queries times documents.
        max_scores: Scores in one reply.
        max_stream_idle_s: Silence of a client after which its stream is ended.
        stuck_after_s: Time after which a thread that hangs ends the server, with status 3.
    """

    max_stream_requests: int = 64
    max_windows_per_request: int = 4096
    max_stream_documents: int = 100_000
    max_stream_bytes: int = 512 * 2**20
    max_comparisons: int = 100_000_000
    max_scores: int = 1_000_000
    max_stream_idle_s: float = 600.0
    stuck_after_s: float = 20.0


FIXED_LIMITS = FixedLimits()
"""The limits of every server; tests use others."""
