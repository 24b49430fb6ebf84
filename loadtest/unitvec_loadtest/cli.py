"""The command `unitvec-loadtest`: flags in, report out, and an exit code that scripts can use."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TextIO

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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    try:
        settings = read_settings(argv)
        if settings.output_html is not None:
            require_matplotlib()
        report = _run(settings)
    except (SettingsError, InputError, PlotsUnavailableError) as exc:
        return _complain(exc, ExitCode.USAGE)
    except ServerUnreachableError as exc:
        return _complain(exc, ExitCode.UNREACHABLE)
    except (ReferencesError, EveryCallFailsError) as exc:
        return _complain(exc, ExitCode.FAILED)
    sys.stdout.write(to_text(report))
    try:
        _write_files(report)
    except OSError as exc:
        return _complain(exc, ExitCode.FAILED)
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
    sys.stdout.write(describe_step(step) + "\n")
    sys.stdout.flush()


def _write_files(report: Report) -> None:
    settings = report.settings
    if settings.output_json is not None:
        settings.output_json.write_text(json.dumps(to_json(report), indent=2) + "\n", "utf-8")
    if settings.output_html is not None:
        from unitvec_loadtest.page import to_html

        settings.output_html.write_text(to_html(report), "utf-8")
