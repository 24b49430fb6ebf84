"""Flags of the command, and the exit codes that scripts can rely on."""

from __future__ import annotations

import argparse
from typing import Any

from unitvec_client.cli.output import TEXT_FORMATS
from unitvec_client.console.arguments import StoreOnce
from unitvec_client.console.texts import INPUT_FORMATS
from unitvec_client.options import DTYPES, METRICS, TRUNCATES
from unitvec_client.targets import DEFAULT_TARGET

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_REFUSED = 4
EXIT_OVERLOADED = 5
EXIT_OUTPUT = 6
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it.
EXIT_INTERRUPTED = 130  # 128 + SIGINT.

EPILOG = f"""\
environment:
  UNITVEC_TARGET  where the server is, unless --target says so (default {DEFAULT_TARGET})
  UNITVEC_TOKEN   token for the server, unless --token-file names one

exit codes:
  0    done
  1    some items failed, each named on standard error; or the server itself failed
  2    wrong usage: flags, files or input
  3    the server cannot be reached, or is starting or draining
  4    refused: invalid request, unknown model, no valid token
  5    overloaded, or out of time
  6    the output cannot be written to its end: a full disk, a quota
  130  interrupted
  141  the reader of the output went away
"""

_EXAMPLES = {
    "embed": """\
  unitvec embed 'a cat on a mat'
  unitvec embed -i texts.txt -o vectors.npy
  unitvec embed -i big.jsonl --field body --id-field id -o vectors.parquet
  unitvec embed -i books.jsonl --window 256 --overlap 32 --with-text -o windows.parquet

A run into a file that is cut short (Ctrl-C, a kill, a server that is gone) leaves FILE.part; the
same command goes on from there.""",
    "similarity": "  unitvec similarity cat feline 'bank loan'",
    "search": "  unitvec search 'how to cook rice' --documents recipes.txt --top-k 3\n"
    "  unitvec search 'how to cook rice' --vectors recipes.parquet",
}
_FURTHER_FORMATS = {
    "embed": ("csv", "npy", "parquet"),
    "similarity": ("csv", "npy"),
    "search": ("csv",),
}
_BY_SUFFIX = "default: by the file's suffix, else table"
_FORMAT_HELP = {
    "embed": "default: by the file's suffix, else table (for people: the first values alone) on a "
    "terminal and jsonl elsewhere"
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `command` of what it parses names the subcommand."""
    parser = argparse.ArgumentParser(
        prog="unitvec",
        description="Turn text into unit vectors on a unitvec server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from unitvec_protos import __version__

    parser.add_argument("--version", action="version", version=f"unitvec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_embed(commands)
    _add_similarity(commands)
    _add_search(commands)
    _add_tokenize(commands)
    _add_command(commands, "models", "what is served, and the limits that hold")
    verify = _add_command(
        commands, "verify", "whether vectors are those that models had when they were exported"
    )
    verify.add_argument("--model", help="name of the model (default: all that are served)")
    health = _add_command(commands, "health", "whether the server is ready (exit code 0 or 3)")
    health.add_argument("--service", default="", help="full name of a service (default: all)")
    _add_admin(commands)
    return parser


def _add_admin(commands: Any) -> None:
    summary = "what operators ask of a server, with a token of its --admin-token-file"
    admin = commands.add_parser("admin", help=summary, description=f"{summary.capitalize()}.")
    nested = admin.add_subparsers(required=True, metavar="COMMAND")
    reload = _add_command(nested, "reload", "load what the folders of models hold now")
    reload.add_argument("--model", help="name of the model (default: all that are served)")
    reload.set_defaults(command="admin reload")


def keywords_of(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return these flags as keywords, without those that were not given."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _add_command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    example = f"examples:\n{_EXAMPLES[name]}\n\n" if name in _EXAMPLES else ""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=example + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_connection(parser.add_argument_group("connection"))
    output = parser.add_argument_group("output")
    formats = TEXT_FORMATS + _FURTHER_FORMATS.get(name, ())
    output.add_argument("-f", "--format", choices=formats, help=_FORMAT_HELP.get(name, _BY_SUFFIX))
    parser.set_defaults(formats=formats)
    _add_file(output, "-o", "--output", help="write here, whole or not at all (default: stdout)")
    return parser


def _add_connection(group: Any) -> None:
    group.add_argument("--target", help="host:port, dns:///host:port or unix:path")
    group.add_argument("--timeout-s", type=float, help="time for the whole call, in seconds")
    group.add_argument("--max-attempts", type=int, help="tries in all; 1 never retries")
    group.add_argument("--tls", action="store_true", help="encrypt and verify the server")
    group.add_argument("--root-certificates", metavar="FILE", help="who may sign its certificate")
    group.add_argument("--client-key", metavar="FILE", help="for mutual TLS")
    group.add_argument("--client-chain", metavar="FILE", help="for mutual TLS")
    group.add_argument("--server-name", help="name to verify, if not the target's")
    group.add_argument("--token-file", metavar="FILE", help="holds the token")
    group.add_argument(
        "--expect",
        metavar="FINGERPRINT",
        help="refuse vectors of another space (s1-...) or of other bits (b1-...); `unitvec models` "
        "tells a server's",
    )


def _add_encoding(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("encoding")
    group.add_argument("--model", help="name of the model (default: the server's)")
    group.add_argument(
        "--truncate", choices=list(TRUNCATES), help="what to cut (default: as the model does)"
    )
    group.add_argument("--dimensions", type=int, metavar="D", help="keep the first D")


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt-name", help="prompt put before each text")


def _add_texts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts (default: stdin)")
    _add_file(parser, "-i", "--input", help="texts; - for stdin")
    parser.set_defaults(file_flag="-i")
    _add_reading(parser)


def _add_file(parser: Any, *names: str, **options: Any) -> None:
    parser.add_argument(*names, metavar="FILE", action=StoreOnce, **options)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input", "Files are UTF-8, and may be packed by gzip.")
    group.add_argument(
        "--field",
        metavar="KEY",
        help="key of the text in JSON, or its column in a table (default text)",
    )
    group.add_argument(
        "--input-format",
        choices=INPUT_FORMATS,
        help="lines: a text a line; json: an array, or a value a line; csv and tsv: with a head "
        "(default: by suffix; json where --field is given or the file begins like it; else lines)",
    )


def _add_embed(commands: Any) -> None:
    parser = _add_command(commands, "embed", "texts to vectors")
    _add_texts(parser)
    _add_encoding(parser)
    _add_prompt(parser)
    parser.add_argument(
        "--dtype",
        choices=list(DTYPES),
        help="int8 arrives as float32 (default float32)",
    )
    parser.add_argument("--no-normalize", action="store_true", help="as the model returns them")
    _add_windows(parser)
    _add_rows(parser)


def _add_windows(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "windows", "Long texts are cut into windows, each with a row of its own and its span."
    )
    group.add_argument("--window", type=int, metavar="TOKENS", help="most tokens of a window")
    group.add_argument(
        "--overlap", type=int, metavar="TOKENS", help="most tokens shared with the window before"
    )
    group.add_argument(
        "--pooled", action="store_true", help="one row a text: the mean of its windows"
    )


def _add_rows(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("rows")
    group.add_argument("--id-field", metavar="KEY", help="write also what the input has under KEY")
    group.add_argument("--with-text", action="store_true", help="write also the texts")
    group.add_argument(
        "--restart", action="store_true", help="forget what an earlier run into this file did"
    )


def _add_similarity(commands: Any) -> None:
    parser = _add_command(commands, "similarity", "scores of the first text against the others")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="at least two")
    _add_file(parser, "--a", help="left sides")
    _add_file(parser, "--b", help="right sides")
    parser.set_defaults(file_flag="--b")
    parser.add_argument("--pairs", action="store_true", help="compare line by line")
    parser.add_argument("--top-k", type=int, metavar="K", help="only the best K of b")
    parser.add_argument("--metric", choices=list(METRICS), help="default cosine")
    _add_reading(parser)
    _add_encoding(parser)
    _add_prompt(parser)


def _add_search(commands: Any) -> None:
    parser = _add_command(commands, "search", "the best documents for each query")
    parser.add_argument("texts", nargs="*", metavar="QUERY", help="queries")
    _add_file(parser, "--queries", help="queries")
    _add_file(parser, "--documents", help="what is searched: texts")
    _add_file(
        parser,
        "--vectors",
        help="what is searched: vectors that `unitvec embed` wrote (.npy, .parquet, .jsonl)",
    )
    parser.add_argument(
        "--group-by",
        metavar="NAME",
        help="of vectors: one hit for all rows that have the same here, such as line for windows",
    )
    parser.set_defaults(file_flag="--queries")
    parser.add_argument("--top-k", type=int, metavar="K", help="hits for each query (default 10)")
    parser.add_argument("--metric", choices=list(METRICS), help="default cosine")
    parser.add_argument("--query-prompt-name", help="prompt put before each query")
    parser.add_argument("--document-prompt-name", help="prompt put before each document")
    _add_reading(parser)
    _add_encoding(parser)


def _add_tokenize(commands: Any) -> None:
    parser = _add_command(commands, "tokenize", "how texts are split into tokens")
    _add_texts(parser)
    parser.add_argument("--model", help="name of the model (default: the server's)")
    parser.add_argument(
        "--truncate", choices=list(TRUNCATES), help="what to cut (default: as the model does)"
    )
    _add_prompt(parser)
