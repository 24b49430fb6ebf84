"""The command as users run it: a subprocess, its exit code and its files."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from unitvec_loadtest.search import Stage
from unitvec_protos.installation import install_command

QUICK = ("--warmup-s", "0", "--count", "20")


class Ended(NamedTuple):
    """How a command ended."""

    code: int | None
    out: str
    err: str


async def start(
    *arguments: str, stdout: int | IO[str] = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    """Starts the command."""
    program = "import sys; from unitvec_loadtest.cli import main; sys.exit(main())"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program, *arguments),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> Ended:
    """Waits for its end."""
    out, err = await process.communicate()
    return Ended(process.returncode, (out or b"").decode(), err.decode())


async def run_command(*arguments: str) -> Ended:
    """Runs the command to its end."""
    return await finish(await start(*arguments))


async def test_a_run_with_all_its_files(small_server, tmp_path: Path) -> None:
    """Text, JSON and page agree on what the server saw; what is written is said on stderr."""
    files = ("--output-json", f"{tmp_path}/a.json", "--output-html", f"{tmp_path}/a.html")
    ended = await run_command("--target", small_server.target, "--concurrency", "4", *QUICK, *files)
    assert ended.code == 0
    sizes = {kind: (tmp_path / f"a.{kind}").stat().st_size for kind in ("json", "html")}
    assert ended.err == "".join(
        f"unitvec-loadtest: wrote {tmp_path}/a.{kind}: {size / 1024:,.1f} KiB\n"
        for kind, size in sizes.items()
    )
    assert "20 sent   20 ok   0 failed" in ended.out
    assert small_server.servicer.calls == 20
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["summary"]["sent"] == 20
    assert report["settings"]["concurrency"] == 4
    assert (tmp_path / "a.html").read_text().count("<svg") == 4


@pytest.mark.parametrize(("flags", "code"), [((), 1), (("--allow-errors",), 0)], ids=str)
async def test_failed_requests_decide_the_code(small_server, flags, code: int) -> None:
    """One failure among twenty is code 1, unless it is allowed."""
    small_server.servicer.fail_when = lambda call: call == 13
    ended = await run_command("--target", small_server.target, *QUICK, *flags)
    assert ended.code == code
    assert re.search(r"1  RESOURCE_EXHAUSTED +queue is full at 13", ended.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rate", "0"), "--rate must be greater than 0"),
        (("--texts", "/no/such/file"), "cannot read /no/such/file: No such file"),
        (("--tls", "--root-certificates", "/no/such/file"), "/no/such/file"),
        (("--token-file", "/no/such/file"), "cannot read /no/such/file"),
        (("--token", "s3cret"), "unrecognized arguments"),
        (("--nonsense",), "unrecognized arguments"),
        (("--target", "https://here:1"), "asks for TLS"),
        (("--texts", "a", "--texts", "b"), "--texts is given twice"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else None,
)
async def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    """Code 2 and one line that says what is wrong, before anything is sent."""
    ended = await run_command("--target", "127.0.0.1:1", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("content", "message"), [("", "holds no token"), ("two\nlines", "token must be printable")]
)
async def test_a_file_without_a_usable_token(tmp_path: Path, content: str, message: str) -> None:
    """Code 2, and nothing of what the file holds."""
    (tmp_path / "token").write_text(content)
    ended = await run_command("--target", "127.0.0.1:1", "--token-file", f"{tmp_path}/token")
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert not content or content.split(maxsplit=1)[0] not in ended.err


async def test_a_full_disk(small_server) -> None:
    """Code 6, and the name of what could not be written."""
    target = ("--target", small_server.target, *QUICK)
    ended = await run_command(*target, "--output-json", "/dev/full")
    assert ended.code == 6
    said = "unitvec-loadtest: cannot write /dev/full: No space left on device\n"
    assert ended.err == said
    with Path("/dev/full").open("w") as full:  # noqa: ASYNC230  # it is a device
        process = await start(*target, stdout=full)
        ended = await finish(process)
    assert ended.code == 6
    assert ended.err == said.replace("/dev/full", "standard output")


async def test_no_server() -> None:
    """Code 3, and the target in the message."""
    ended = await run_command("--target", "127.0.0.1:1", "--timeout-s", "0.2")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == "unitvec-loadtest: no connection to 127.0.0.1:1 within 0.2 s\n"


async def test_ctrl_c_ends_the_run_and_reports(small_server) -> None:
    """An hour's run ends at the first Ctrl-C, with a report of what was sent."""
    process = await start(
        "--target", small_server.target, "--duration-s", "3600", "--warmup-s", "0"
    )
    await small_server.servicer.reached(10)
    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert ended.code == 0
    assert "(interrupted)" in ended.out
    assert f"{small_server.servicer.calls:,} sent" in ended.out
    assert "press Ctrl-C again" in ended.err


async def test_a_second_ctrl_c_quits_at_once(small_server) -> None:
    """A request that is never answered does not hold up the second Ctrl-C."""
    small_server.servicer.gate.clear()
    process = await start("--target", small_server.target, "--timeout-s", "3600", "--warmup-s", "0")
    await small_server.servicer.reached(1)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while b"press Ctrl-C again" not in await process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert (ended.code, ended.out) == (130, "")


@pytest.mark.parametrize("fails", [False, True], ids=["holds", "fails"])
async def test_find_max(small_server, fails: bool) -> None:
    """Each step is printed as it ends; code 0 if a rate was found."""
    small_server.servicer.fail_when = lambda call: fails
    ended = await run_command(
        *(
            "--target",
            small_server.target,
            "--find-max",
            "--p99-ms",
            "9000",
            "--rate",
            "40",
            "--max-rate",
        ),
        *("80", "--step-s", "0.1", "--duration-s", "0.1", "--warmup-s", "0"),
    )
    steps = [line for line in ended.out.splitlines() if line.split(" ")[0] in STAGES]
    if fails:
        assert ended.code == 1
        assert len(steps) > 5
        assert all("fails" in step for step in steps)
        assert "no rate was confirmed" in ended.out
    else:
        assert ended.code == 0
        assert [step.split()[:2] for step in steps] == [
            ["grow", "40.0/s"],
            ["grow", "80.0/s"],
            ["confirm", "80.0/s"],
        ]
        assert "without errors: 80.0/s" in ended.out


STAGES = {stage.value for stage in Stage}


async def test_plots_without_matplotlib(tmp_path: Path) -> None:
    """A page without matplotlib is refused before the run, with what to install."""
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from unitvec_loadtest.cli import main; sys.exit(main())"
    )
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            program,
            "--target",
            "127.0.0.1:1",
            "--output-html",
            f"{tmp_path}/a.html",
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ended = await finish(process)
    assert ended.code == 2
    assert install_command("loadtest") in ended.err
