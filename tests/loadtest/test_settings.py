"""Flags and settings: what is refused, and what the message says."""

import dataclasses
import re
from pathlib import Path

import pytest

from unitvec_loadtest.flags import TOKEN_VARIABLE, read_settings
from unitvec_loadtest.pacer import ConstantPacer, PoissonPacer, Window
from unitvec_loadtest.settings import Arrivals, Rpc, Settings, SettingsError, WireDtype

REFUSED = [
    ("--rate 5 --concurrency 2", "--rate is an open loop and --concurrency a closed one"),
    ("--count 5 --duration-s 2", "--count and --duration-s both"),
    ("--rate 0", "--rate must be greater than 0, got 0"),
    ("--rate -1", "--rate must be greater than 0"),
    ("--rate nan", "--rate must be greater than 0, got nan"),
    ("--rate inf", "--rate must be greater than 0, got inf"),
    ("--concurrency 0", "--concurrency must be"),
    ("--duration-s 0", "--duration-s must be"),
    ("--count 0", "--count must be"),
    ("--texts-per-request 0", "--texts-per-request must be"),
    ("--channels 0", "--channels must be"),
    ("--timeout-s 0", "--timeout-s must be"),
    ("--max-in-flight 0", "--max-in-flight must be"),
    ("--warmup-s -1", "--warmup-s must be 0 or more"),
    ("--warmup-s nan", "--warmup-s must be 0 or more"),
    ("--arrivals poisson", "--arrivals poisson needs an open loop"),
    ("--find-max", "--find-max needs --p99-ms"),
    ("--p99-ms 5", "--p99-ms is the target of --find-max"),
    ("--find-max --p99-ms 0", "--p99-ms must be greater than 0"),
    ("--find-max --p99-ms 5 --max-rate 0", "--max-rate must be"),
    ("--find-max --p99-ms 5 --step-s 0", "--step-s must be"),
    ("--find-max --p99-ms 5 --concurrency 2", "takes no --concurrency"),
    ("--find-max --p99-ms 5 --count 2", "takes no --concurrency or --count"),
    ("--find-max --p99-ms 5000 --timeout-s 5", "--p99-ms must be less than --timeout-s"),
    ("--rpc similarity --texts-per-request 1", "--texts-per-request must be 2 or more"),
    ("--rpc similarity --dtype int8", "--dtype is the number type of vectors"),
    ("--verify --dtype float16", "--verify compares float32"),
    ("--root-certificates ca.pem", "add --tls"),
    ("--tls --client-key k.pem", "--client-chain and --client-key belong together"),
    ("--output-json /no/such/folder/a.json", "--output-json: no folder /no/such/folder"),
    ("--output-html /no/such/folder/a.html", "--output-html: no folder /no/such/folder"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_refused(line: str, message: str) -> None:
    """Each contradiction is refused with a message that names the flag."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        read_settings(line.split())


@pytest.mark.parametrize("line", ["--rpc tokenize", "--rate fast", "--conc 5", "a b", "--dtype f4"])
def test_not_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What argparse refuses ends the program with code 2 and a usage line."""
    with pytest.raises(SystemExit) as ended:
        read_settings(line.split())
    assert ended.value.code == 2
    assert "usage: unitvec-loadtest" in capsys.readouterr().err


def test_defaults_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flags give the same settings as the dataclass alone."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv("UNITVEC_TARGET", raising=False)
    settings = read_settings([])
    assert settings == Settings()
    assert not settings.is_open_loop
    assert settings.workers == 1
    assert settings.window == Window(2_000_000_000, duration_ns=10_000_000_000)


def test_every_flag_reaches_the_settings(tmp_path: Path) -> None:
    """Every field has a flag, and every flag a field."""
    line = (
        "--target host:1 --rpc stream --rate 12.5 --arrivals poisson --count 7 --warmup-s 0.5 "
        "--texts t.txt "
        "--field body --input-format csv "
        "--texts-per-request 3 --channels 4 --timeout-s 9 --max-in-flight 11 "
        "--model m --dtype int8 --seed 5 --tls --root-certificates ca --client-key k "
        f"--client-chain c --token-file {tmp_path}/token --output-json {tmp_path}/a.json "
        f"--output-html {tmp_path}/a.html --allow-errors --max-rate 77 --step-s 3"
    )
    (tmp_path / "token").write_text("t\n")
    settings = read_settings(line.split())
    expected = Settings(
        target="host:1",
        rpc=Rpc.STREAM,
        rate_per_s=12.5,
        count=7,
        arrivals=Arrivals.POISSON,
        warmup_s=0.5,
        texts=Path("t.txt"),
        field="body",
        input_format="csv",
        texts_per_request=3,
        channels=4,
        timeout_s=9,
        max_in_flight=11,
        model="m",
        dtype=WireDtype.INT8,
        seed=5,
        tls=True,
        token="t",
        root_certificates=Path("ca"),
        client_key=Path("k"),
        client_chain=Path("c"),
        output_json=tmp_path / "a.json",
        output_html=tmp_path / "a.html",
        allow_errors=True,
        max_rate_per_s=77,
        step_s=3,
    )
    assert settings == expected
    untouched = {
        item.name
        for item in dataclasses.fields(Settings)
        if getattr(settings, item.name) == item.default
    }
    # These contradict others above, so they are read on their own.
    assert untouched == {"concurrency", "duration_s", "verify", "find_max", "p99_ms"}
    assert read_settings(["--concurrency", "9", "--duration-s", "4"]).measured_s == 4
    assert read_settings(["--verify"]).verify
    assert read_settings(["--find-max", "--p99-ms", "20"]).p99_ms == 20


def test_similarity_compares_two_texts_by_default() -> None:
    """The default number of texts is one that the call can do something with."""
    assert read_settings(["--rpc", "similarity"]).texts_per_request == 2


@pytest.mark.parametrize(
    ("written", "flags", "target"),
    [
        ("elsewhere:1", "", "elsewhere:1"),
        ("elsewhere:1", "--target here", "here:50051"),
        ("http://elsewhere:1", "", "elsewhere:1"),
        ("", "--target http://here:2/", "here:2"),
        ("", "", "localhost:50051"),
    ],
)
def test_target_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, written: str, flags: str, target: str
) -> None:
    """As for the command and the library, and written as people write it."""
    monkeypatch.setenv("UNITVEC_TARGET", written)
    assert read_settings(flags.split()).target == target


def test_token_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file wins over the variable; the token is in no report."""
    monkeypatch.setenv(TOKEN_VARIABLE, "from-env")
    settings = read_settings([])
    assert settings.token == "from-env"
    path = tmp_path / "token"
    path.write_text("from-file\n")
    assert read_settings(["--token-file", str(path)]).token == "from-file"
    assert "from-env" not in str(settings.public())


def test_pacers() -> None:
    """Arrivals and seed choose the pacer; a search starts no higher than its limit."""
    assert Settings(rate_per_s=5).pacer(7) == ConstantPacer(7)
    poisson = Settings(rate_per_s=5, arrivals=Arrivals.POISSON, seed=3)
    assert poisson.pacer(7) == PoissonPacer(7, seed=3)
    search = Settings(find_max=True, p99_ms=5, rate_per_s=50, max_rate_per_s=20)
    assert search.start_rate_per_s == 20
