"""`unitvec tokenize`, `unitvec models` and `unitvec health`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from unitvec_client.cli.embed import text_source
from unitvec_client.cli.flags import EXIT_OK, EXIT_SOME_FAILED, EXIT_UNAVAILABLE, keywords_of
from unitvec_client.cli.output import format_table, open_output, write_records, write_text
from unitvec_client.client import Client
from unitvec_client.console.terminal import waiting_for, working
from unitvec_client.errors import VerificationError
from unitvec_client.results import ServerInfo, TokenizedText
from unitvec_client.verification import Verification

_VERIFIED_HEAD = ("verified", "texts", "cosine min", "needed", "space", "bits")


def tokenize(client: Client, args: argparse.Namespace) -> int:
    """`unitvec tokenize`: the tokens of each text; what `embed` would cut is marked."""
    texts = text_source(args).texts()
    names = ("model", "prompt_name", "truncate", "timeout_s")
    with open_output(args.output) as file:
        with working(waiting_for(f"tokenizing {len(texts):,} texts"), sys.stderr):
            found = client.tokenize(texts, **keywords_of(args, *names))
        if args.format == "table":
            for tokenized in found:
                cut = f" of {len(tokenized.ids)}" if tokenized.truncated else ""
                tokens = " ".join(tokenized.tokens)
                write_text(file, f"{tokenized.kept_tokens}{cut} tokens  {tokens}")
        else:
            pairs = zip(texts, found, strict=True)
            write_records(file, args.format, (_token_record(*pair) for pair in pairs))
    return EXIT_OK


def _token_record(text: str, tokenized: TokenizedText) -> dict[str, Any]:
    return {
        "text": text,
        "ids": tokenized.ids.tolist(),
        "tokens": list(tokenized.tokens),
        "offsets": tokenized.offsets.tolist(),
        "kept_tokens": tokenized.kept_tokens,
        "kept_start": tokenized.kept_start,
        "kept_end": tokenized.kept_end,
    }


def models(client: Client, args: argparse.Namespace) -> int:
    """`unitvec models`: what is served."""
    info = client.models(timeout_s=args.timeout_s)
    with open_output(args.output) as file:
        if args.format == "table":
            for line in _describe(info):
                write_text(file, line)
        else:
            write_records(file, args.format, (asdict(model) for model in info.models))
    return EXIT_OK


def _describe(info: ServerInfo) -> Iterator[str]:
    head = ("name", "dim", "tokens", "pooling", "precision", "provider", "space", "bits", "from")
    rows = [
        (
            f"{model.name} (default)" if model.is_default else model.name,
            str(model.dim),
            str(model.max_seq_length),
            model.pooling,
            model.precision,
            model.provider,
            model.space or "unknown",
            model.bits or "unknown",
            model.model_id,
        )
        for model in info.models
    ]
    yield format_table(head, rows)
    yield ""
    yield format_table(
        ("limit", "value"), [(name, f"{value:,}") for name, value in asdict(info.limits).items()]
    )
    yield ""
    yield f"unitvec {info.server_version}"


def verify(client: Client, args: argparse.Namespace) -> int:
    """`unitvec verify`: exit code 0 if all vectors are those of the export."""
    names = [args.model] if args.model else [model.name for model in client.models().models]
    found: list[Verification] = []
    status = EXIT_OK
    for name in names:
        try:
            found.append(client.verify(**keywords_of(args, "timeout_s"), model=name))
        except VerificationError as exc:
            status = EXIT_SOME_FAILED
            print(f"unitvec: {exc}", file=sys.stderr)
    with open_output(args.output) as file:
        if args.format != "table":
            write_records(file, args.format, map(asdict, found))
        elif found:
            write_text(file, format_table(_VERIFIED_HEAD, [_verified_row(each) for each in found]))
    return status


def _verified_row(found: Verification) -> tuple[str, ...]:
    bound = "every bit" if found.exact else f"cosine {found.min_cosine}"
    cosine = f"{found.cosine_min:.7f}"
    return (found.model, str(found.texts), cosine, bound, found.space or "unknown", found.bits)


def health(client: Client, args: argparse.Namespace) -> int:
    """`unitvec health`: exit code 0 if the server is ready."""
    status = client.health(args.service, timeout_s=args.timeout_s)
    with open_output(args.output) as file:
        if args.format == "table":
            write_text(file, status)
        else:
            write_records(file, args.format, [{"service": args.service, "status": status}])
    return EXIT_OK if status == "SERVING" else EXIT_UNAVAILABLE
