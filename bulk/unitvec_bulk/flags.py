"""Flags of `unitvec-bulk`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from unitvec_bulk.cluster import Cluster
from unitvec_bulk.embedding.remote import Fleet
from unitvec_bulk.errors import UsageError
from unitvec_bulk.job import Request
from unitvec_bulk.options import DTYPES, TRUNCATES, Columns, EmbedOptions
from unitvec_bulk.reading.pieces import FORMATS
from unitvec_bulk.run import RunOptions
from unitvec_bulk.writing.stores import LanceDB, Qdrant, Store
from unitvec_client.connection import ConnectionOptions
from unitvec_protos import __version__
from unitvec_server.config import PRECISIONS

EPILOG = """\
inputs are files, folders, globs and URLs of Parquet, JSON lines, CSV, TSV and text, also packed by
gzip or zstd. Rows that fail are in DIR/_errors. A run that is cut short goes on with the same
command.

environment:
  UNITVEC_TOKEN   token for the servers of --target, unless --token-file names one
  QDRANT_API_KEY  key of the server of --qdrant

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
    args = build_parser(is_plan=is_plan).parse_args(argv)
    request = Request(
        tuple(args.inputs),
        args.output,
        args.model,
        _fleet(args),
        Columns(args.text_column, args.id_column, tuple(args.keep), args.template),
        _options(args),
        args.format,
        args.shard_rows,
        None if is_plan else _store(args),
    )
    if is_plan:
        return Flags(request, RunOptions(), args.json, args.cores, args.price)
    cluster = Cluster(args.address, args.cpus, args.dashboard)
    run = RunOptions(cluster, args.workers, args.max_errors)
    return Flags(request, run, args.json, 0, None)


def build_parser(*, is_plan: bool = False) -> argparse.ArgumentParser:
    """The flags of `unitvec-bulk`, or of `unitvec-bulk plan`."""
    parser = argparse.ArgumentParser(
        prog="unitvec-bulk plan" if is_plan else "unitvec-bulk",
        description=_PLAN if is_plan else _RUN,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"unitvec {__version__}")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, glob or URL")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--shard-rows",
        type=_count,
        default=0,
        metavar="N",
        help="most rows of a shard (default: 1,024 to 65,536, by the input and the workers)",
    )
    _add_columns(parser.add_argument_group("input"))
    _add_embedding(parser.add_argument_group("embedding"))
    if is_plan:
        parser.set_defaults(output="plan")
        parser.add_argument(
            "--cores", type=_count, default=0, help="cores that it is for (default: this machine's)"
        )
        parser.add_argument("--price", type=float, help="price of an hour of one core")
    else:
        parser.add_argument(
            "-o", "--output", required=True, metavar="DIR", help="folder or URL of the output"
        )
        parser.add_argument(
            "--max-errors", type=_number, metavar="N", help="stop once more rows failed"
        )
        _add_store(parser.add_argument_group("store"))
        _add_engine(parser.add_argument_group("engine"))
    return parser


def _add_columns(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--format", choices=FORMATS, help="format of all inputs (default: by the suffix)")
    add("--text-column", default="text", metavar="NAME", help="column of the texts (default: text)")
    add("--template", default="", metavar="TEXT", help="text of columns, as in '{title}: {body}'")
    add("--id-column", default="", metavar="NAME", help="names rows (default: by file and number)")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="NAME",
        help="copy this column, too; again for more",
    )


def _add_embedding(group: argparse._ArgumentGroup) -> None:
    usual = EmbedOptions()
    _add_model(group.add_argument, usual)
    add = group.add_argument
    add("--dtype", choices=DTYPES, default=usual.dtype, help="numbers of a vector (float32)")
    add("--dimensions", type=_count, default=0, metavar="D", help="keep the first D (default: all)")
    add("--prompt-name", metavar="NAME", help="prompt before each text (default: the model's)")
    add("--truncate", choices=TRUNCATES, default=usual.truncate, help="what is cut off (model)")
    add("--no-normalize", action="store_true", help="keep the model's own lengths")
    add("--window", type=_number, metavar="TOKENS", help="cut texts into windows; 0: the longest")
    add(
        "--overlap",
        type=_number,
        default=0,
        metavar="TOKENS",
        help="most tokens that windows share (0)",
    )
    add("--pooled", action="store_true", help="one vector for all windows of a text")
    add(
        "--max-text-bytes",
        type=_count,
        default=usual.max_text_bytes,
        metavar="N",
        help=f"longer texts fail ({usual.max_text_bytes:,})",
    )


def _add_model(add: Callable[..., object], usual: EmbedOptions) -> None:
    add("--model", default="", help="folder of an exported model, or one to export")
    add(
        "--precision",
        choices=PRECISIONS,
        default=usual.precision,
        help="graph that runs; auto is the fastest near-lossless one",
    )
    add("--provider", choices=("cpu", "cuda"), default=usual.provider, help="where it runs (cpu)")
    add("--target", default="", help="let a running fleet embed, over gRPC, in place of a model")
    add("--target-model", default="", metavar="NAME", help="model there (default: its first)")
    add("--tls", action="store_true", help="encrypt, and verify the servers")
    add("--root-certificates", type=Path, metavar="FILE", help="who may sign theirs")
    add("--token-file", type=Path, metavar="FILE", help="holds the token")


def _add_store(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--lancedb", metavar="URL", help="vectors go into this database; DIR has the rest")
    add("--qdrant", metavar="URL", help="the same with this server")
    add("--table", metavar="NAME", help="table, or collection; made unless it is there")


def _add_engine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--address", default="", help="a Ray cluster's, or auto (default: one of its own)")
    add(
        "--workers",
        type=_count,
        default=0,
        metavar="N",
        help="side by side (default: one on each CPU or GPU)",
    )
    add(
        "--cpus", type=_count, default=0, metavar="N", help="CPUs of its own cluster (default: all)"
    )
    add("--dashboard", action="store_true", help="open Ray's dashboard, on 127.0.0.1")


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


def _store(args: argparse.Namespace) -> Store | None:
    if not (args.lancedb or args.qdrant):
        if args.table:
            raise UsageError("--table is one of --lancedb or --qdrant: name one of them")
        return None
    if args.lancedb and args.qdrant:
        raise UsageError("--lancedb and --qdrant exclude each other")
    if not args.table:
        raise UsageError("name the table with --table")
    if args.lancedb:
        return LanceDB(_database(args.lancedb), args.table)
    if "://" not in args.qdrant and args.workers != 1:
        raise UsageError("a folder of Qdrant's local mode takes one process: --workers 1")
    return Qdrant(_database(args.qdrant), args.table, os.environ.get("QDRANT_API_KEY"))


def _database(url: str) -> str:
    """A URL, or a path that processes in other folders understand, too."""
    return url if "://" in url else str(Path(url).expanduser().absolute())


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
