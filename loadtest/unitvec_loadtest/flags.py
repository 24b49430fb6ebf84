"""The flags of `unitvec-loadtest` and how they become `Settings`."""

import argparse
import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from unitvec_client.console.arguments import StoreOnce
from unitvec_client.console.texts import INPUT_FORMATS
from unitvec_client.targets import DEFAULT_TARGET, TARGET_VARIABLE, resolve_target
from unitvec_loadtest.settings import (
    DEFAULT_DURATION_S,
    DEFAULT_START_RATE_PER_S,
    Rpc,
    Settings,
    SettingsError,
)
from unitvec_protos import __version__

TOKEN_VARIABLE = "UNITVEC_TOKEN"  # noqa: S105  # the name of a variable, not a secret


def read_settings(argv: Sequence[str] | None = None) -> Settings:
    """Reads the command line; a flag that argparse refuses ends the program with code 2.

    Raises:
        SettingsError: The flags do not fit together, or the token cannot be read.
        InputError: The target is none.
    """
    values = vars(_build_parser().parse_args(argv))
    if values["texts_per_request"] is None:
        values["texts_per_request"] = 2 if values["rpc"] is Rpc.SIMILARITY else 1
    values["target"] = resolve_target(values["target"], tls=values["tls"])
    token = _read_token(values.pop("token_file"))
    return Settings(**values, token=token)


def _read_token(path: Path | None) -> str | None:
    """The token in the file, else of the environment: never of the command line, which ps shows."""
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"--token-file: cannot read {path}: {exc}") from exc
    if not token:
        raise SettingsError(f"--token-file: {path} holds no token")
    return token


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unitvec-loadtest",
        description="Load a unitvec server and report what it holds.",
        epilog=f"Environment: {TARGET_VARIABLE} and {TOKEN_VARIABLE}, as for unitvec. "
        "Exit codes: 0 ok; 1 a request failed, or no rate holds the target; 2 wrong usage; "
        "3 no server; 6 a report cannot be written to its end, such as on a full disk.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--target", help=f"host:port ({DEFAULT_TARGET}, or the variable {TARGET_VARIABLE})"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_load(parser.add_argument_group("load"))
    _add_requests(parser.add_argument_group("requests"))
    _add_search(parser.add_argument_group("search for the highest rate"))
    _add_connection(parser.add_argument_group("connection"))
    _add_output(parser.add_argument_group("verdict and output"))
    return parser


# Defaults of the flags are those of Settings: the class attributes of the dataclass.
_Group = argparse._ArgumentGroup  # noqa: SLF001  # argparse has no public name for it


def _add_load(group: _Group) -> None:
    group.add_argument(
        "--rate",
        dest="rate_per_s",
        type=float,
        metavar="R",
        help="open loop: send R requests per second, whatever the server does",
    )
    _add_choice(group, "--arrivals", Settings.arrivals, "spacing of an open loop")
    group.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help="closed loop: keep N requests in flight (the default, with N = 1)",
    )
    group.add_argument(
        "--duration-s",
        type=float,
        metavar="S",
        help=f"measure for S seconds ({DEFAULT_DURATION_S:g})",
    )
    group.add_argument("--count", type=int, metavar="N", help="measure N requests")
    _add_number(group, "--warmup-s", Settings.warmup_s, "first S seconds that do not count")
    _add_number(group, "--timeout-s", Settings.timeout_s, "deadline of each request")
    _add_number(
        group,
        "--max-in-flight",
        Settings.max_in_flight,
        "open loop: send later, and say so, rather than have more in flight",
    )
    _add_number(group, "--seed", Settings.seed, "of the order of texts and Poisson arrivals")


def _add_requests(group: _Group) -> None:
    _add_choice(group, "--rpc", Settings.rpc, "what to call; stream keeps one stream a channel")
    group.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        action=StoreOnce,
        help="texts: plain lines, JSON, CSV or TSV, packed by gzip or not; - for standard input "
        "(200 glosses that come with unitvec)",
    )
    group.add_argument(
        "--field", metavar="KEY", help="key of the text in JSON, or its column (text)"
    )
    group.add_argument(
        "--input-format", choices=INPUT_FORMATS, help="of --texts (by its suffix and its beginning)"
    )
    group.add_argument(
        "--texts-per-request",
        type=int,
        metavar="N",
        help="texts in each request (1; similarity: 2, the first against the others)",
    )
    group.add_argument("--model", default="", help="name of the model (the server's default)")
    _add_choice(group, "--dtype", Settings.dtype, "number type of the vectors in replies")


def _add_search(group: _Group) -> None:
    group.add_argument(
        "--find-max",
        action="store_true",
        help="search the highest rate that holds --p99-ms without an error, and confirm it in a "
        f"run of --duration-s; starts at --rate ({DEFAULT_START_RATE_PER_S:g})",
    )
    group.add_argument("--p99-ms", type=float, metavar="MS", help="target of --find-max")
    group.add_argument(
        "--max-rate",
        dest="max_rate_per_s",
        type=float,
        metavar="R",
        default=Settings.max_rate_per_s,
        help="do not go beyond R requests per second (%(default)g)",
    )
    _add_number(group, "--step-s", Settings.step_s, "measured seconds at each rate")


def _add_connection(group: _Group) -> None:
    _add_number(group, "--channels", Settings.channels, "connections to spread requests over")
    group.add_argument("--tls", action="store_true", help="encrypt, and verify the server")
    group.add_argument(
        "--root-certificates",
        type=Path,
        metavar="PEM",
        help="who may sign the server's certificate (the well-known authorities)",
    )
    group.add_argument("--client-key", type=Path, metavar="PEM", help="key for mutual TLS")
    group.add_argument(
        "--client-chain", type=Path, metavar="PEM", help="certificates that go with the key"
    )
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"holds the bearer token (without it, the variable {TOKEN_VARIABLE})",
    )


def _add_output(group: _Group) -> None:
    group.add_argument(
        "--verify",
        action="store_true",
        help="compare every answer with the one to the same text sent alone; other answers fail",
    )
    group.add_argument(
        "--allow-errors", action="store_true", help="end with code 0 even if requests failed"
    )
    for flag, text in (
        ("--output-json", "write the report as JSON"),
        ("--output-html", "write it as a page with plots"),
    ):
        group.add_argument(flag, type=Path, metavar="FILE", action=StoreOnce, help=text)


def _add_number(group: _Group, flag: str, default: float, text: str) -> None:
    """Adds a number of the type of its default."""
    metavar = "S" if flag.endswith("-s") else "N"
    group.add_argument(
        flag, type=type(default), default=default, metavar=metavar, help=f"{text} (%(default)s)"
    )


def _add_choice(group: _Group, flag: str, default: Enum, text: str) -> None:
    """Adds a choice among the members of the enum that its default is one of."""
    kind = type(default)
    names = ", ".join(member.value for member in kind)
    group.add_argument(
        flag,
        type=kind,
        choices=list(kind),
        default=default,
        metavar="NAME",
        help=f"{text}: {names} ({default.value})",
    )
