"""`unitvec-export`: sentence-transformers model -> artifact folder."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

from unitvec_export.console.flags import make_parser
from unitvec_export.console.output import drop_standard_output
from unitvec_export.console.report import report_export, report_parities
from unitvec_export.errors import ExportError, first_line
from unitvec_export.progress import Progress
from unitvec_export.source import Request, is_packaged, model_name
from unitvec_protos.installation import explain_missing
from unitvec_server.errors import StartupError
from unitvec_server.model.artifact import load_artifact

_NEEDED_TO_RUN = ("onnxruntime", "tokenizers")
"""Packages of the extra `server`."""
_NEEDED = ("onnx", "safetensors")
"""Further packages that any export needs, of the extra `export-light`."""
_NEEDED_FOR_SHAPES = ("sympy",)
"""Of that extra, what infers the shapes in a graph; of the stored one they are stored."""
_NEEDED_TO_TRACE = ("optimum", "sentence_transformers", "torch")
"""Further packages of the extra `export`."""
_MISSING_CODE = 2
_BROKEN_PIPE_CODE = 141
"""128 + SIGPIPE, as a shell reports it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments without the program's name; None means the process's own.

    Returns:
        Exit code: 0 done, 1 the export failed or parity does not hold, 2 the command line or the
        model cannot be used, or a package is not installed, 141 the reader of the output went away.
    """
    try:
        try:
            return _main(argv)
        finally:
            sys.stdout.flush()  # where the reader is gone, it is here that short output fails
    except BrokenPipeError:
        drop_standard_output()
        return _BROKEN_PIPE_CODE


def _main(argv: Sequence[str] | None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    if (args.texts or args.vectors) and not (args.verify or args.from_onnx):
        parser.error("--texts and --vectors go with --verify or --from-onnx")
    if args.without_fp32 and args.precision == ("fp32",):
        parser.error("--without-fp32 and --precision fp32 leave no graph")
    if missing := _missing(args):
        sys.stderr.write(explain_missing("unitvec-export", missing, extra="export"))
        return _MISSING_CODE
    with _Signals():  # before the imports, which take seconds
        try:
            print(_run(args))
        except (ExportError, StartupError) as exc:
            print(f"unitvec-export: error: {exc}", file=sys.stderr)
            return exc.exit_code if isinstance(exc, ExportError) else 1
        except BrokenPipeError:
            raise
        except Exception as exc:  # noqa: BLE001 - the libraries inside raise what they like
            if args.verbose:
                traceback.print_exc()
            what = f"unexpected {type(exc).__name__}: {first_line(exc)}"
            print(f"unitvec-export: error: {what} (--verbose tells more)", file=sys.stderr)
            return 1
    return 0


def _missing(args: argparse.Namespace) -> str | None:
    """The first package that what is asked for needs, and that is not installed."""
    needed: tuple[str, ...] = _NEEDED_TO_RUN
    if not args.verify and not args.list:
        needed += _NEEDED
        # Without torch the packaged model is built from its files, and others from ONNX.
        if args.from_onnx:
            needed += _NEEDED_FOR_SHAPES
        elif not (args.without_torch or is_packaged(_request(args))):
            needed += _NEEDED_FOR_SHAPES + _NEEDED_TO_TRACE
    return next((name for name in needed if not _is_installed(name)), None)


def _is_installed(name: str) -> bool:
    return find_spec(name) is not None


def _run(args: argparse.Namespace) -> str:
    """Does what is asked for, and returns what is to be said of it."""
    if args.list:
        from unitvec_export.console.listing import list_all

        return list_all()
    if args.verify:
        return _verify(args)
    return _export(args)


def _request(args: argparse.Namespace) -> Request:
    return Request(args.model, args.revision, args.offline)


def _export(args: argparse.Namespace) -> str:
    from unitvec_export.export import STEPS, export
    from unitvec_export.origins import ExportOptions

    started_s = time.monotonic()
    options = ExportOptions(
        request=_request(args),
        out=args.out or Path("artifacts") / model_name(args.model),
        precisions=args.precision,
        without_fp32=args.without_fp32,
        opset=args.opset,
        verbose=args.verbose,
        without_torch=args.without_torch or not all(map(_is_installed, _NEEDED_TO_TRACE)),
        onnx=args.from_onnx,
        texts=args.texts,
        vectors=args.vectors,
    )
    export(options, Progress(sys.stdout, steps=STEPS))
    return report_export(load_artifact(options.out), time.monotonic() - started_s)


def _verify(args: argparse.Namespace) -> str:
    from unitvec_export.verify import STEPS, VerifyOptions, verify

    options = VerifyOptions(
        folder=args.verify,
        request=_request(args) if args.model is not None else None,
        texts=args.texts,
        vectors=args.vectors,
        without_torch=args.without_torch,
        offline=args.offline,
        verbose=args.verbose,
    )
    artifact, parities = verify(options, Progress(sys.stdout, steps=STEPS))
    return report_parities(artifact, parities)


class _Signals:
    """Turns SIGTERM and SIGINT into an exit that cleans up; further ones are ignored.

    Python runs handlers in whatever code comes next. Where that is a callback of a weak reference,
    the exit is dropped and told of as an unraisable error; then it is raised again a moment later.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)
    _AGAIN_S = 0.01

    def __enter__(self) -> None:
        self._dropped: SystemExit | None = None
        self._former = [signal.signal(number, self._exit) for number in self._SIGNALS]
        self._former_again = signal.signal(signal.SIGALRM, self._raise_dropped)
        self._former_hook, sys.unraisablehook = sys.unraisablehook, self._exit_again

    def __exit__(self, *_: object) -> None:
        # A timer that outlives this would raise in the interpreter's own last steps.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._former_again)
        sys.unraisablehook = self._former_hook
        for number, handler in zip(self._SIGNALS, self._former, strict=True):
            signal.signal(number, handler)
        self._raise_dropped()

    def _exit(self, number: int, _: FrameType | None) -> NoReturn:
        for other in self._SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        print("\nunitvec-export: interrupted; no partial output was left", file=sys.stderr)
        raise SystemExit(128 + number)

    def _exit_again(self, dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, SystemExit):
            self._former_hook(dropped)
            return
        self._dropped = SystemExit(dropped.exc_value.code)
        signal.setitimer(signal.ITIMER_REAL, self._AGAIN_S)

    def _raise_dropped(self, *_: object) -> None:
        dropped, self._dropped = self._dropped, None
        if dropped is not None:
            raise dropped


if __name__ == "__main__":
    sys.exit(main())
