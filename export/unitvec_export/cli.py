"""`unitvec-export`: sentence-transformers model -> artifact folder."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from unitvec_export.errors import ExportError, first_line
from unitvec_export.source import DEFAULT_MODEL_ID, Request, is_packaged, model_name
from unitvec_protos.installation import explain_missing
from unitvec_server.errors import StartupError
from unitvec_server.model.artifact import PRECISIONS, Manifest

if TYPE_CHECKING:
    from unitvec_export.export import ExportOptions

_DESCRIPTION = """\
Exports a sentence-transformers model to a folder that unitvec-serve serves: ONNX graphs with
pooling and normalization inside, the tokenizer, and a manifest with the measured parity.
It ends by comparing the result with sentence-transformers on bundled texts; an fp32 graph
that is not equal fails the export and leaves nothing behind."""

_INT8_NOTE = """\
int8: close to the model, not equal to it, and the same whatever a text is batched with. It is
never chosen by itself: serve it with --precision int8. On CPUs without VNNI it is less exact."""

_NEEDED = ("onnx", "onnxruntime", "safetensors", "sympy", "tokenizers")
"""Packages of the extra `export-light`."""
_NEEDED_TO_TRACE = ("optimum", "sentence_transformers", "torch")
"""Further packages of the extra `export`."""
_MISSING_CODE = 2
_TABLE = "{:<10} {:>6} {:>12} {:>12} {:>12} {:>10}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments without the program's name; None means the process's own.

    Returns:
        Exit code: 0 done, 1 the export failed, 2 the command line or the model cannot be used,
        or a package is not installed.
    """
    if missing := _missing(_NEEDED):
        return _refuse(missing)
    started_s = time.monotonic()
    with _Signals():  # before the imports, which take seconds
        options = _parse(argv)
        if not options.without_torch and (missing := _missing(_NEEDED_TO_TRACE)):
            if not is_packaged(options.request):
                return _refuse(missing)
            options = dataclasses.replace(options, without_torch=True)
        try:
            manifest = _run(options)
        except (ExportError, StartupError) as exc:
            print(f"unitvec-export: error: {exc}", file=sys.stderr)
            return exc.exit_code if isinstance(exc, ExportError) else 1
        except Exception as exc:  # noqa: BLE001 - the libraries inside raise what they like
            if options.verbose:
                traceback.print_exc()
            what = f"unexpected {type(exc).__name__}: {first_line(exc)}"
            print(f"unitvec-export: error: {what} (--verbose tells more)", file=sys.stderr)
            return 1
        print(_report(manifest, options.out, time.monotonic() - started_s))
    return 0


def _missing(packages: Sequence[str]) -> str | None:
    return next((name for name in packages if find_spec(name) is None), None)


def _refuse(missing: str) -> int:
    sys.stderr.write(explain_missing("unitvec-export", missing, extra="export"))
    return _MISSING_CODE


def _run(options: ExportOptions) -> Manifest:
    from unitvec_export.export import STEPS, export
    from unitvec_export.progress import Progress

    return export(options, Progress(sys.stdout, steps=STEPS))


def _parse(argv: Sequence[str] | None) -> ExportOptions:
    from unitvec_export.export import ExportOptions

    args = _parser().parse_args(argv)
    return ExportOptions(
        request=Request(args.model, args.revision, args.offline),
        out=args.out or Path("artifacts") / model_name(args.model),
        precisions=args.precision,
        opset=args.opset,
        verbose=args.verbose,
        without_torch=args.without_torch,
    )


def _parser() -> argparse.ArgumentParser:
    from unitvec_export.graph.tracing import DEFAULT_OPSET, OPSETS

    parser = argparse.ArgumentParser(prog="unitvec-export", description=_DESCRIPTION)
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help=f"hub id or folder (default: {DEFAULT_MODEL_ID})")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="artifact folder (default: artifacts/<model's name>)",
    )
    add(
        "--precision",
        type=_precisions,
        metavar="P,...",
        help="graphs to write: fp32, int16, int8, fp16 (for CUDA); "
        "fp32 is always among them (default: fp32 and, with unitvec-kernels, int16)",
    )
    add(
        "--opset",
        type=int,
        choices=OPSETS,
        default=DEFAULT_OPSET,
        metavar="N",
        help=f"ONNX operator set, {OPSETS[0]} to {OPSETS[-1]} (default: {DEFAULT_OPSET})",
    )
    add(
        "--without-torch",
        action="store_true",
        help="build the packaged model from its files, to the same bits, and compare it with "
        "stored vectors of sentence-transformers (default where torch is not installed)",
    )
    add("--revision", metavar="R", help="branch, tag or commit of a hub model")
    add("--offline", action="store_true", help="use only what is on this machine")
    add("--verbose", action="store_true", help="show what the libraries log")
    return parser


def _precisions(text: str) -> tuple[str, ...]:
    names = {name.strip() for name in text.split(",") if name.strip()}
    unknown = sorted(names - set(PRECISIONS))
    if unknown or not names:
        what = f"unknown precision {unknown[0]!r}" if unknown else "no precision"
        raise argparse.ArgumentTypeError(f"{what}; known: {', '.join(PRECISIONS)}")
    return tuple(name for name in PRECISIONS if name in names | {"fp32"})


def _report(manifest: Manifest, out: Path, seconds_s: float) -> str:
    lines = [
        "",
        _TABLE.format("precision", "texts", "cosine mean", "cosine min", "max abs diff", "MB"),
    ]
    for name, graph in manifest.graphs.items():
        parity = graph.parity
        cosines = (f"{parity.cosine_mean:.7f}", f"{parity.cosine_min:.7f}")
        size = f"{graph.file.size_bytes / 1e6:.1f}"
        lines.append(
            _TABLE.format(name, parity.texts, *cosines, f"{parity.max_abs_diff:.1e}", size)
        )
    if "int8" in manifest.graphs:
        lines += ["", _INT8_NOTE]
    kind = (
        f"{manifest.dim} dimensions, {manifest.max_seq_length} tokens, {manifest.pooling} pooling"
    )
    lines += ["", f"{manifest.model_id} ({kind}) is in {out}, after {seconds_s:.0f} s."]
    lines += [f"Serve it:  unitvec-serve --model {out}"]
    return "\n".join(lines)


class _Signals:
    """Turns SIGTERM and SIGINT into an exit that cleans up; further ones are ignored.

    Python runs handlers in whatever code comes next. Where that is a callback of a weak reference,
    the exit is dropped and told of as an unraisable error; then it is raised again a moment later.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)
    _AGAIN_S = 0.01

    def __enter__(self) -> None:
        self._former = [signal.signal(number, self._exit) for number in self._SIGNALS]
        self._former_hook, sys.unraisablehook = sys.unraisablehook, self._exit_again

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._former_hook
        for number, handler in zip(self._SIGNALS, self._former, strict=True):
            signal.signal(number, handler)

    def _exit(self, number: int, _: FrameType | None) -> NoReturn:
        for other in self._SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        print("\nunitvec-export: interrupted; no partial output was left", file=sys.stderr)
        raise SystemExit(128 + number)

    def _exit_again(self, dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, SystemExit):
            self._former_hook(dropped)
            return
        code = dropped.exc_value.code

        def leave(*_: object) -> NoReturn:
            raise SystemExit(code)

        signal.signal(signal.SIGALRM, leave)
        signal.setitimer(signal.ITIMER_REAL, self._AGAIN_S)


if __name__ == "__main__":
    sys.exit(main())
