"""The command `unitvec-loadtest`: flags in, report out, and an exit code that scripts can use."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TextIO

from unitvec_client.console.writing import (
    STANDARD_OUTPUT,
    OutputError,
    drop_standard_output,
    say_written,
    writing,
)
from unitvec_client.errors import InputError
from unitvec_loadtest.connection import ServerUnreachableError
from unitvec_loadtest.flags import read_settings
from unitvec_loadtest.plots import PlotsUnavailableError, require_matplotlib
from unitvec_loadtest.report import Report, Step, describe_step, to_json, to_text
from unitvec_loadtest.settings import Settings, SettingsError
from unitvec_loadtest.tester import EveryCallFailsError, LoadTest, ReferencesError

_FORCED_EXIT = 130
"""What shells report for a program ended by Ctrl-C: 128 + SIGINT."""


class ExitCode(Enum):
    """What the command ends with."""

    OK = 0
    FAILED = 1
    """A request failed (and --allow-errors was not given), every call gets one and the same error,
    or no rate holds the target."""
    USAGE = 2
    """The flags, a file of texts or a certificate is wrong."""
    UNREACHABLE = 3
    """No server answered."""
    OUTPUT = 6
    """A report cannot be written to its end: a full disk, a quota."""
    BROKEN_PIPE = 141
    """The reader of the output went away: 128 + SIGPIPE, as a shell reports it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    try:
        settings = read_settings(argv)
        if settings.output_html is not None:
            require_matplotlib()
        report = _run(settings)
        _write(report)
    except (SettingsError, InputError, PlotsUnavailableError) as exc:
        return _complain(exc, ExitCode.USAGE)
    except ServerUnreachableError as exc:
        return _complain(exc, ExitCode.UNREACHABLE)
    except (ReferencesError, EveryCallFailsError) as exc:
        return _complain(exc, ExitCode.FAILED)
    except OutputError as exc:
        drop_standard_output()
        return _complain(exc, ExitCode.OUTPUT)
    except BrokenPipeError:
        drop_standard_output()
        return ExitCode.BROKEN_PIPE.value
    return judge(report).value


def judge(report: Report) -> ExitCode:
    """Says whether a finished test went well.

    A search goes well if it found a rate: the failures on its way there are its method.
    """
    if report.search is not None:
        return ExitCode.FAILED if report.search.found_rate_per_s is None else ExitCode.OK
    if report.summary.failed and not report.settings.allow_errors:
        return ExitCode.FAILED
    return ExitCode.OK


def _complain(error: Exception, code: ExitCode) -> int:
    sys.stderr.write(f"unitvec-loadtest: {error}\n")
    return code.value


def _run(settings: Settings) -> Report:
    progress = sys.stderr if sys.stderr.isatty() else None
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_run_until_stopped(settings, progress))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Takes uvloop, which sends faster, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run_until_stopped(settings: Settings, progress: TextIO | None) -> Report:
    test = LoadTest(settings, on_step=_print_step, progress=progress)
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        sys.stderr.write("\nending the run; press Ctrl-C again to quit at once\n")
        test.stop()
        loop.add_signal_handler(signal.SIGINT, _quit)

    # Windows loops take no handlers; there the first Ctrl-C quits.
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, interrupt)
    return await test.run()


def _quit() -> None:
    # Nothing is left to save, and an orderly end is what the user no longer waits for.
    os._exit(_FORCED_EXIT)


def _print_step(step: Step) -> None:
    _print(describe_step(step) + "\n")


def _print(text: str) -> None:
    with writing(STANDARD_OUTPUT):
        sys.stdout.write(text)
        sys.stdout.flush()


def _write(report: Report) -> None:
    """Writes the report everywhere it is wanted."""
    _print(to_text(report))
    settings = report.settings
    if settings.output_json is not None:
        _write_file(settings.output_json, json.dumps(to_json(report), indent=2) + "\n")
    if settings.output_html is not None:
        from unitvec_loadtest.page import to_html

        _write_file(settings.output_html, to_html(report))


def _write_file(path: Path, text: str) -> None:
    with writing(str(path)):
        path.write_text(text, "utf-8")
    say_written("unitvec-loadtest", str(path))
