"""Flags of `unitvec-bulk`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unitvec_bulk.cluster import Cluster
from unitvec_bulk.embedding.remote import Fleet
from unitvec_bulk.errors import UsageError
from unitvec_bulk.job import Request
from unitvec_bulk.options import DTYPES, TRUNCATES, Columns, EmbedOptions
from unitvec_bulk.reading.pieces import FORMATS
from unitvec_bulk.run import RunOptions
from unitvec_client.connection import ConnectionOptions
from unitvec_protos import __version__
from unitvec_server.config import PRECISIONS

EPILOG = """\
inputs are files, folders, globs and URLs of Parquet, JSON lines, CSV, TSV and text, also packed by
gzip or zstd. Rows that fail are in DIR/_errors. A run that is cut short goes on with the same
command.

environment:
  UNITVEC_TOKEN  token for the servers of --target, unless --token-file names one

exit codes:
  0    done
  1    done, but some rows failed
  2    wrong usage: flags, files or model
  3    stopped before the end; the same command goes on
  4    DIR belongs to another job, or to a run that goes on
  130  interrupted; the same command goes on
"""
_PLAN = "Read a sample, measure this machine for seconds, and say what the whole job would take."
_RUN = """\
Embed a data set on Ray: on this machine with nothing to start, or on a cluster.
`unitvec-bulk plan INPUT...` says beforehand what it would take."""


class Flags(NamedTuple):
    """What the command line says.

    Attributes:
        request: The job.
        run: Where and how it runs.
        as_json: Whether the result is printed as JSON.
        cores: Cores that a plan is made for; 0 for those of this machine.
        price: Price of an hour of one core; None if it was not given.
    """

    request: Request
    run: RunOptions
    as_json: bool
    cores: int
    price: float | None


def read_flags(argv: Sequence[str], *, is_plan: bool = False) -> Flags:
    """Reads a command line.

    Raises:
        UsageError: Flags that do not go together.
        SystemExit: Flags that are not there, or --help.
    """
    args = _parser(is_plan).parse_args(argv)
    request = Request(
        tuple(args.inputs),
        args.output,
        args.model,
        _fleet(args),
        Columns(args.text_column, args.id_column, tuple(args.keep), args.template),
        _options(args),
        args.format,
        args.shard_rows,
    )
    if is_plan:
        return Flags(request, RunOptions(), args.json, args.cores, args.price)
    cluster = Cluster(args.address, args.cpus, args.dashboard)
    run = RunOptions(cluster, args.workers, args.max_errors)
    return Flags(request, run, args.json, 0, None)


def _parser(is_plan: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unitvec-bulk plan" if is_plan else "unitvec-bulk",
        description=_PLAN if is_plan else _RUN,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"unitvec {__version__}")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, glob or URL")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--shard-rows", type=_count, default=0, metavar="N", help="rows of a shard")
    _add_columns(parser.add_argument_group("input"))
    _add_embedding(parser.add_argument_group("embedding"))
    if is_plan:
        parser.set_defaults(output="plan")
        parser.add_argument(
            "--cores", type=_count, default=0, help="cores (default: this machine's)"
        )
        parser.add_argument("--price", type=float, help="price of an hour of one core")
    else:
        parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder or URL")
        parser.add_argument(
            "--max-errors", type=_number, metavar="N", help="stop once more rows failed"
        )
        _add_engine(parser.add_argument_group("engine"))
    return parser


def _add_columns(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--format", choices=FORMATS, help="of all inputs (default: by the suffix)")
    group.add_argument("--text-column", default="text", metavar="NAME", help="default: text")
    group.add_argument(
        "--template", default="", metavar="TEXT", help="text made of columns: '{title}: {body}'"
    )
    group.add_argument(
        "--id-column", default="", metavar="NAME", help="names rows (default: by file and number)"
    )
    group.add_argument(
        "--keep", action="append", default=[], metavar="NAME", help="copy this column, too; again"
    )


def _add_embedding(group: argparse._ArgumentGroup) -> None:
    usual = EmbedOptions()
    group.add_argument("--model", default="", help="folder of an exported model, or one to export")
    group.add_argument("--precision", choices=PRECISIONS, default=usual.precision)
    group.add_argument("--provider", choices=("cpu", "cuda"), default=usual.provider)
    group.add_argument("--dtype", choices=DTYPES, default=usual.dtype)
    group.add_argument("--dimensions", type=_count, default=0, metavar="D", help="keep the first D")
    group.add_argument("--prompt-name", help="prompt before each text (default: the model's)")
    group.add_argument("--truncate", choices=TRUNCATES, default=usual.truncate)
    group.add_argument("--no-normalize", action="store_true", help="keep the model's own lengths")
    group.add_argument("--window", type=_number, metavar="TOKENS", help="cut; 0: the longest")
    group.add_argument("--overlap", type=_number, default=0, metavar="TOKENS")
    group.add_argument("--pooled", action="store_true", help="one vector for all windows of a text")
    group.add_argument("--max-text-bytes", type=_count, default=usual.max_text_bytes, metavar="N")
    group.add_argument("--target", default="", help="let a running fleet embed, over gRPC")
    group.add_argument("--target-model", default="", help="name of the model there")
    group.add_argument("--tls", action="store_true", help="encrypt, and verify the servers")
    group.add_argument("--root-certificates", type=Path, metavar="FILE", help="who may sign theirs")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="holds the token")


def _add_engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--address", default="", help="a Ray cluster's (default: one of its own)")
    group.add_argument("--workers", type=_count, default=0, help="default: one on each CPU or GPU")
    group.add_argument("--cpus", type=_count, default=0, help="CPUs of a cluster of its own")
    group.add_argument("--dashboard", action="store_true", help="Ray's, on 127.0.0.1")


def _options(args: argparse.Namespace) -> EmbedOptions:
    return EmbedOptions(
        precision=args.precision,
        provider=args.provider,
        prompt_name=args.prompt_name,
        truncate=args.truncate,
        dimensions=args.dimensions,
        normalize=not args.no_normalize,
        dtype=args.dtype,
        window_tokens=args.window,
        overlap_tokens=args.overlap,
        pooled=args.pooled,
        max_text_bytes=args.max_text_bytes,
    )


def _fleet(args: argparse.Namespace) -> Fleet | None:
    if not args.target:
        return None
    if args.model:
        raise UsageError("--model and --target exclude each other: a fleet has its own models")
    try:
        token = args.token_file.read_text(encoding="utf-8").strip() if args.token_file else None
        roots = args.root_certificates.read_bytes() if args.root_certificates else None
    except OSError as exc:
        raise UsageError(f"cannot read {exc.filename}: {exc.strerror}") from exc
    connection = ConnectionOptions(
        tls=args.tls,
        root_certificates=roots,
        token=token or os.environ.get("UNITVEC_TOKEN"),
    )
    return Fleet(args.target, args.target_model, connection)


def _count(text: str) -> int:
    number = _number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1")
    return number


def _number(text: str) -> int:
    try:
        number = int(text.replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    return number
