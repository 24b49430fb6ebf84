"""The command `unitvec`: what the client does, for shells and scripts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from unitvec_client.cli.admin import reload
from unitvec_client.cli.compare import search, similarity
from unitvec_client.cli.embed import embed
from unitvec_client.cli.flags import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    EXIT_OUTPUT,
    EXIT_OVERLOADED,
    EXIT_REFUSED,
    EXIT_SOME_FAILED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    build_parser,
)
from unitvec_client.cli.info import health, models, tokenize, verify
from unitvec_client.cli.output import choose_format, is_same_file
from unitvec_client.client import Client
from unitvec_client.connection import ConnectionOptions
from unitvec_client.console.files import STANDARD_INPUT
from unitvec_client.console.texts import check_no_file
from unitvec_client.console.writing import OutputError, drop_standard_output
from unitvec_client.errors import (
    DeadlineExceededError,
    InputError,
    RefusedError,
    TransientError,
    UnavailableError,
    UnitvecError,
)
from unitvec_client.retry import RetryPolicy

Command = Callable[[Client, argparse.Namespace], int]

_COMMANDS: dict[str, Command] = {
    "embed": embed,
    "similarity": similarity,
    "search": search,
    "tokenize": tokenize,
    "models": models,
    "verify": verify,
    "health": health,
    "admin reload": reload,
}
# The first class that fits decides.
_EXIT_CODES: tuple[tuple[type[UnitvecError], int], ...] = (
    (InputError, EXIT_USAGE),
    (RefusedError, EXIT_REFUSED),
    (UnavailableError, EXIT_UNAVAILABLE),
    (TransientError, EXIT_OVERLOADED),
    (UnitvecError, EXIT_SOME_FAILED),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; see ``unitvec --help``.

    Args:
        arguments: Those after the program's name; None for this process's own.
    """
    args = build_parser().parse_args(arguments)
    try:
        check_no_file(getattr(args, "texts", ()), flag=getattr(args, "file_flag", ""))
        _prepare_output(args)
        with _connect(args, os.environ) as client:
            return _COMMANDS[args.command](client, args)
    except OutputError as exc:
        print(f"unitvec: {exc}", file=sys.stderr)
        drop_standard_output()
        return EXIT_OUTPUT
    except DeadlineExceededError as exc:
        print(f"unitvec: {exc}: the time ran out, and --timeout-s gives more", file=sys.stderr)
        return EXIT_OVERLOADED
    except UnitvecError as exc:
        print(f"unitvec: {exc}", file=sys.stderr)
        return exit_code_of(exc)
    except BrokenPipeError:
        drop_standard_output()
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as exc:
        print(f"unitvec: {exc}", file=sys.stderr)
        return EXIT_USAGE


def exit_code_of(error: UnitvecError) -> int:
    """Return the exit code that says what kind of error this is."""
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


def _prepare_output(args: argparse.Namespace) -> None:
    if args.output == STANDARD_INPUT:
        args.output = None
    args.on_terminal = args.output is None and sys.stdout.isatty()
    # A table shows a part of each vector; who reads a pipe or a file wants all of it.
    usual = "jsonl" if args.command == "embed" and not args.on_terminal else "table"
    args.format = choose_format(args.format, args.output, args.formats, usual=usual)
    for name in ("input", "documents", "vectors", "queries", "a", "b"):
        path = getattr(args, name, None)
        if path and args.output and is_same_file(path, args.output):
            raise InputError(f"{args.output} is read and would be written: give another --output")


def _connect(args: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    options = ConnectionOptions(
        tls=args.tls,
        root_certificates=args.root_certificates,
        client_key=args.client_key,
        client_chain=args.client_chain,
        server_name=args.server_name,
        token=_read_token(args.token_file, environ),
    )
    policy = RetryPolicy() if args.max_attempts is None else RetryPolicy(args.max_attempts)
    return Client(args.target, connection=options, retry=policy, expect=args.expect)


def _read_token(path: str | None, environ: Mapping[str, str]) -> str | None:
    if path is None:
        return environ.get("UNITVEC_TOKEN") or None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"cannot read the token in {path}: {exc}") from exc


if __name__ == "__main__":
    sys.exit(main())
