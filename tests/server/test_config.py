"""Flags, variables, defaults and the relations between them."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.errors import ConfigError
from unitvec_server.flags import ENV_PREFIX, flag, parse_config

# A field's sample: a text that is legal, its value, and texts that are not.
SAMPLES: dict[str, tuple[str, Any, list[str]]] = {
    "model": ("m=/x", (ModelSpec("m", Path("/x")),), ["m="]),
    "host": ("0.0.0.0", "0.0.0.0", []),
    "port": ("0", 0, ["-1", "65536", "http", "1.5"]),
    "provider": ("cuda", "cuda", ["gpu", "CPU"]),
    "precision": ("int8", "int8", ["int4"]),
    "workers": ("1", 1, ["-1", "many"]),
    "max_batch_tokens": ("512", 512, ["-1", "x"]),
    "self_test": ("false", False, ["maybe"]),
    "cache_bytes": ("1_000_000", 1_000_000, ["-1", "1GB"]),
    "max_connections": ("7", 7, ["0", "2147483648", "x"]),
    "max_calls": ("7", 7, ["0", "x"]),
    "max_texts_per_request": ("1_000", 1000, ["0", "-5", "x"]),
    "max_text_bytes": ("10", 10, ["0", "10MB"]),
    "max_queued_tokens": ("99", 99, ["0", "x"]),
    "max_corpora_bytes": ("8", 8, ["0", "x"]),
    "max_message_bytes": ("2000000", 2000000, ["0", "2147483648", "x"]),
    "max_connection_age_s": ("60", 60.0, ["-1", "nan", "old"]),
    "grace_s": ("0.5", 0.5, ["-1", "nan", "inf", "soon"]),
    "tls_cert": ("/c", Path("/c"), []),
    "tls_key": ("/k", Path("/k"), []),
    "tls_client_ca": ("/ca", Path("/ca"), []),
    "token_file": ("/t", Path("/t"), []),
    "tokens": ("first,second", ("first", "second"), [" , "]),
    "admin_token_file": ("/a", Path("/a"), []),
    "insecure": ("yes", True, ["maybe"]),
    "reflection": ("False", False, ["maybe", "2"]),
    "grpc_tei": ("false", False, ["maybe"]),
    "grpc_oip": ("no", False, ["2"]),
    "http_port": ("0", 0, ["-1", "65536", "http", "1.5"]),
    "http_apis": ("openai", ("openai",), ["grpc", "openai,x"]),
    "metrics_port": ("0", 0, ["-1", "65536", "http", "1.5"]),
    "metrics_host": ("0.0.0.0", "0.0.0.0", []),
    "tracing": ("yes", True, ["maybe"]),
    "log_format": ("json", "json", ["xml"]),
    "log_level": ("debug", "debug", ["loud"]),
}
NEEDS = {"tls_cert": {"tls_key": "/k"}, "tls_key": {"tls_cert": "/c"}}
NEEDS["tls_client_ca"] = {"tls_cert": "/c", "tls_key": "/k"}
NEEDS["http_apis"] = {"http_port": "0"}
SECRET = "tokens"
FLAGS = [name for name in SAMPLES if name != SECRET]
WRONG = [(name, text) for name, (_, _, wrong) in SAMPLES.items() for text in wrong]


def test_every_field_has_a_sample() -> None:
    """A new field must come into the table above."""
    assert [field.name for field in dataclasses.fields(ServerConfig)] == list(SAMPLES)


def flags(**fields: str) -> list[str]:
    """Fields as a command line, with a model if none is named."""
    return [f"{flag(name)}={text}" for name, text in ({"model": "d=/d"} | fields).items()]


def variables(**fields: str) -> dict[str, str]:
    """Fields as an environment, with a model if none is named."""
    return {ENV_PREFIX + key.upper(): text for key, text in ({"model": "d=/d"} | fields).items()}


@pytest.mark.parametrize("name", FLAGS)
class TestEveryField:
    """What holds for all of them."""

    def test_flag_and_variable_mean_the_same(self, name: str) -> None:
        text, value, _ = SAMPLES[name]
        fields = NEEDS.get(name, {}) | {name: text}
        by_flag, by_variable = (
            parse_config(flags(**fields), {}),
            parse_config([], variables(**fields)),
        )
        assert by_flag == by_variable
        assert getattr(by_flag, name) == value

    def test_flag_wins_over_variable(self, name: str) -> None:
        text, value, wrong = SAMPLES[name]
        needs = NEEDS.get(name, {})
        environ = variables(**needs, **{name: (wrong or ["/elsewhere"])[0]})
        assert getattr(parse_config(flags(**needs, **{name: text}), environ), name) == value

    def test_empty_variable_is_no_variable(self, name: str) -> None:
        default = ServerConfig.__dataclass_fields__[name].default
        config = parse_config(flags(), {ENV_PREFIX + name.upper(): ""})
        assert getattr(config, name) == default or name == "model"

    def test_help_shows_it(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            parse_config(["--help"], {})
        assert caught.value.code == 0
        assert flag(name) in capsys.readouterr().out


@pytest.mark.parametrize(("name", "text"), WRONG)
class TestWrongValues:
    """The message names where the value came from."""

    def test_of_a_flag(self, name: str, text: str) -> None:
        if name == SECRET:
            return
        with pytest.raises(ConfigError, match=f"^{flag(name)}: "):
            parse_config(flags(**{name: text}), {})

    def test_of_a_variable(self, name: str, text: str) -> None:
        with pytest.raises(ConfigError, match=f"^{ENV_PREFIX}{name.upper()}: "):
            parse_config([], variables(**{name: text}))


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "--model"),
        (["--model="], "--model"),
        (["--model=,"], "--model"),
        (["--model=a=/x", "--model=a=/y"], "'a'"),
        (["--model=/x/m", "--model=/y/m"], "'m'"),
        (["--model=/m", "--tls-cert=/c"], "--tls-key"),
        (["--model=/m", "--tls-key=/k"], "--tls-cert"),
        (["--model=/m", "--tls-client-ca=/ca"], "--tls-cert"),
        (["--model=/m", "--http-apis=tei"], "--http-port"),
        (["--model=/m", "--max-text-bytes=20000000"], "--max-message-bytes"),
        (["--model=/m", "--provider=cuda", "--workers=2"], "--workers"),
    ],
)
def test_relations(argv: list[str], named: str) -> None:
    """What does not go together is refused, by name and in one line."""
    with pytest.raises(ConfigError) as caught:
        parse_config(argv, {})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_defaults() -> None:
    """Nothing but a model is needed."""
    assert parse_config(["--model=d=/d"], {}) == ServerConfig(model=(ModelSpec("d", Path("/d")),))


def test_models_in_order_named_or_by_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is the default; a folder gives its name, however it is written."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    argv = ["--model=b=/x", "--model=/y/a/", "--model", ".", "--model= c = /z "]
    names = [spec.name for spec in parse_config(argv, {}).model]
    assert names == ["b", "a", "here", "c"]
    assert parse_config([], {"UNITVEC_MODEL": "b=/x,/y/a"}).model == (
        ModelSpec("b", Path("/x")),
        ModelSpec("a", Path("/y/a")),
    )


@pytest.mark.parametrize("name", ["run=3", "a,b", "a, b=c", "x=1,y=2", " blank ", "a,b,c=d"])
def test_a_folder_that_exists_is_one_model(tmp_path: Path, name: str) -> None:
    """Whatever its name has in it, on the command line and within a list."""
    folder = tmp_path / name / "m"
    folder.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    alone = (ModelSpec("m", folder),)
    assert parse_config([f"--model={folder}"], {}).model == alone
    assert parse_config(["--model", f"n={folder}"], {}).model == (ModelSpec("n", folder),)
    assert parse_config([], {"UNITVEC_MODEL": str(folder)}).model == alone
    listed = f"o={tmp_path}/other , {folder},/gone"
    models = (ModelSpec("o", tmp_path / "other"), *alone, ModelSpec("gone", Path("/gone")))
    assert parse_config([], {"UNITVEC_MODEL": listed}).model == models
    assert parse_config(["--model", str(tmp_path / name)], {}).model[0].folder == tmp_path / name


@pytest.mark.parametrize("folder", ["/data/run=3/m", "./run=3/m", "/data/a,b/m"])
def test_each_flag_is_one_model(folder: str) -> None:
    """A folder that is not there is named whole, not by what follows a sign in it."""
    assert parse_config(["--model", folder], {}).model == (ModelSpec("m", Path(folder)),)


def test_blanks_and_commas_around_models_are_nothing() -> None:
    """Lists are written by people."""
    found = parse_config([], {"UNITVEC_MODEL": " b = /x , ,/y/a ,"}).model
    assert found == (ModelSpec("b", Path("/x")), ModelSpec("a", Path("/y/a")))


def test_last_flag_wins() -> None:
    """As with most commands."""
    assert parse_config(["--model=/m", "--port=1", "--port=2"], {}).port == 2


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--nope=1"], "--nope"),
        (["--max-text=1"], "--max-text"),
        (["--port"], "--port"),
        (["stray"], "stray"),
        (["--insecure", "--first", "--second"], "--first"),
    ],
)
def test_unknown_and_malformed_flags_are_refused(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name, in one line that says where to look; abbreviations are not guessed."""
    with pytest.raises(ConfigError, match=rf"^{named}: .* --help$") as caught:
        parse_config(["--model=/m", *argv], {})
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_foreign_variables_are_ignored() -> None:
    """Such as those of the other commands."""
    assert parse_config(["--model=/m"], {"UNITVEC_TARGET": "x", "PORT": "x"}).port == 50051


class TestSecret:
    """Tokens come by a variable, never by a flag, and are shown nowhere."""

    def test_variable(self) -> None:
        config = parse_config([], variables(tokens="first, second\nthird"))
        assert config.tokens == ("first", "second", "third")
        assert "first" not in repr(config)

    @pytest.mark.parametrize("argv", [["--tokens=first"], ["--tokens", "first"]])
    def test_is_no_flag(self, argv: list[str]) -> None:
        with pytest.raises(ConfigError, match=r"^--tokens: no such flag") as caught:
            parse_config(["--model=/m", *argv], {})
        assert "first" not in str(caught.value)

    def test_help_names_the_variable(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            parse_config(["--help"], {})
        assert "UNITVEC_TOKENS" in capsys.readouterr().out


def test_a_switch_may_stand_alone() -> None:
    """`--insecure` is `--insecure true`, wherever it stands."""
    assert parse_config(["--insecure", "--model=/m"], {}).insecure
    assert parse_config(["--model=/m", "--insecure"], {}).insecure
    assert not parse_config(["--model=/m", "--insecure", "false"], {}).insecure
