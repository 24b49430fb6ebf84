"""The command `unitvec-bulk`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from unitvec_bulk.errors import BulkError, JobConflict, UsageError

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_STOPPED, EXIT_CONFLICT = 0, 1, 2, 3, 4
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        Exit code; `flags.EPILOG` lists them.
    """
    from unitvec_bulk.flags import read_flags

    args = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if args and args[0] == "plan":
            return _plan(read_flags(args[1:], is_plan=True))
        return _run(read_flags(args))
    except BulkError as exc:
        print(f"unitvec-bulk: error: {exc}", file=sys.stderr)
        return _EXITS.get(type(exc), EXIT_STOPPED)
    except KeyboardInterrupt:
        print("unitvec-bulk: interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED


_EXITS: dict[type[BulkError], int] = {UsageError: EXIT_USAGE, JobConflict: EXIT_CONFLICT}


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(flags: Any) -> int:
    from unitvec_bulk.job import prepare
    from unitvec_bulk.run import run

    summary = run(prepare(flags.request), flags.run)
    if flags.as_json:
        print(json.dumps(summary, indent=2))
    else:
        print(_sentence(summary, flags.request.output), file=sys.stderr)
    return EXIT_SOME_FAILED if summary["failed"] else EXIT_OK


def _sentence(summary: dict[str, Any], output: str) -> str:
    this = summary["this_run"]
    failed = f", {summary['failed']:,} rows failed (see _errors/)" if summary["failed"] else ""
    rate = f", {this['rows_per_s']:,.0f} rows/s" if this["rows"] else ""
    return (
        f"unitvec-bulk: {summary['vectors']:,} vectors of {summary['rows']:,} rows in {output}"
        f"{rate}{failed}"
    )


def _plan(flags: Any) -> int:
    from unitvec_bulk.plan import make_plan

    plan = make_plan(flags.request, cores=flags.cores, price=flags.price)
    print(json.dumps(plan.facts(), indent=2) if flags.as_json else plan.text())
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
