"""Tokens, certificates and exposure, without a server."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.certificates import Pair, not_after_s, write_certificate
from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.errors import ConfigError, InvalidRequest, Unauthenticated
from unitvec_server.security.certificates import Certificates, TlsFiles
from unitvec_server.security.hosts import host_check
from unitvec_server.security.secrets import Secrets, Tokens, check_exposure

CONFIG = ServerConfig(model=(ModelSpec("m", Path("/m")),))
ACCEPTED = ("first", "second-token", "t0ken/with+all~of.the_alphabet==")


class TestTokens:
    @pytest.mark.parametrize("token", ACCEPTED)
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_each_is_accepted(self, token: str, scheme: str) -> None:
        """The scheme is a word of any case, by RFC 9110."""
        tokens = Tokens(ACCEPTED, None)
        tokens.check(f"{scheme} {token}")
        tokens.check(f"{scheme} {token}".encode())

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            b"",
            "Bearer",
            "Bearer ",
            "first",
            "Basic first",
            "Bearer firs",
            "Bearer first,",
            "Bearer first second-token",
            "Bearer\tfirst",
            "Token first",
            b"\xff\xfe",
            "Bearer FIRST",
        ],
    )
    def test_others_are_not(self, header: str | bytes | None) -> None:
        with pytest.raises(Unauthenticated) as caught:
            Tokens(ACCEPTED, None).check(header)
        assert "first" not in str(caught.value)

    @given(st.text() | st.binary())
    def test_no_header_passes_by_chance(self, header: str | bytes) -> None:
        with pytest.raises(Unauthenticated):
            Tokens(ACCEPTED, None).check(header)

    @given(st.none() | st.text() | st.binary())
    def test_without_tokens_everyone_passes(self, header: str | bytes | None) -> None:
        Tokens((), None).check(header)

    @pytest.mark.parametrize("content", ["", "\n \n", "# only a comment\n"])
    def test_a_file_must_hold_one(self, tmp_path: Path, content: str) -> None:
        """Else whoever empties it would open the server."""
        (tmp_path / "tokens").write_text(content)
        with pytest.raises(ConfigError, match="holds no token"):
            Tokens(("beside",), tmp_path / "tokens")

    @pytest.mark.parametrize("token", ["two words", "ü", "quo'te", "=", "a=b", "\x00"])
    def test_a_malformed_one_is_refused_unseen(self, token: str) -> None:
        with pytest.raises(ConfigError, match=r"^UNITVEC_TOKENS: ") as caught:
            Tokens((token,), None)
        assert f" {token} " not in str(caught.value)


def tls(pair: Pair, authorities: Path | None = None) -> TlsFiles:
    """The files of a server with this certificate."""
    return TlsFiles(pair.certificate, pair.key, authorities)


class TestCertificates:
    """Whatever clients would stumble over is refused before it is used."""

    def test_a_good_pair_is_taken_once(self, tmp_path: Path) -> None:
        certificates = Certificates(tls(write_certificate(tmp_path, "own")))
        assert not certificates.reload()
        write_certificate(tmp_path, "own")
        assert certificates.reload()
        assert not certificates.reload()

    def test_a_chain_is_taken(self, tmp_path: Path) -> None:
        """The server's own certificate first, then others."""
        own, other = (write_certificate(tmp_path, name) for name in "ab")
        with own.certificate.open("ab") as file:
            file.write(other.certificate.read_bytes())
        Certificates(tls(own))

    @pytest.mark.parametrize("days", [(3, 9), (9, 3)], ids=["own", "intermediate"])
    def test_the_first_of_a_chain_to_expire_counts(
        self, tmp_path: Path, days: tuple[int, int]
    ) -> None:
        own, other = (
            write_certificate(tmp_path, name, valid_days=(-1, last))
            for name, last in zip("ab", days, strict=True)
        )
        first = min(not_after_s(own), not_after_s(other))
        with own.certificate.open("ab") as file:
            file.write(other.certificate.read_bytes())
        assert Certificates(tls(own)).not_after_s == first

    def test_one_that_is_refused_leaves_the_old_date(self, tmp_path: Path) -> None:
        own = write_certificate(tmp_path, "own", valid_days=(-1, 3))
        certificates, end_s = Certificates(tls(own)), not_after_s(own)
        write_certificate(tmp_path, "own", valid_days=(1, 9))
        with pytest.raises(ConfigError, match="not yet valid"):
            certificates.reload()
        assert certificates.not_after_s == end_s

    @pytest.mark.parametrize(
        ("days", "reason"), [((-9, -1), "certificate has expired"), ((1, 9), "not yet valid")]
    )
    def test_out_of_its_time(self, tmp_path: Path, days: tuple[int, int], reason: str) -> None:
        with pytest.raises(ConfigError, match=reason):
            Certificates(tls(write_certificate(tmp_path, "own", valid_days=days)))

    def test_a_key_with_a_passphrase_does_not_ask_for_it(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="--tls-key"):
            Certificates(tls(write_certificate(tmp_path, "own", passphrase=b"secret")))

    def test_a_key_of_another(self, tmp_path: Path) -> None:
        own, other = (write_certificate(tmp_path, name) for name in "ab")
        with pytest.raises(ConfigError, match="key values mismatch"):
            Certificates(TlsFiles(own.certificate, other.key))

    @pytest.mark.parametrize("flaw", ["empty", "text", "cut", "missing", "folder"])
    @pytest.mark.parametrize(
        ("which", "flag"),
        [("certificate", "--tls-cert"), ("key", "--tls-key"), ("client_authorities", "-ca")],
    )
    def test_files_that_are_none(self, tmp_path: Path, flaw: str, which: str, flag: str) -> None:
        own, other = (write_certificate(tmp_path, name) for name in "ab")
        files = tls(own, other.certificate)
        spoil(getattr(files, which), flaw)
        with pytest.raises(ConfigError, match=flag) as caught:
            Certificates(files)
        assert "\n" not in str(caught.value)
        assert "_ssl.c" not in str(caught.value)


def spoil(path: Path, flaw: str) -> None:
    """Makes a file unusable."""
    content = path.read_bytes()
    path.unlink()
    if flaw == "folder":
        path.mkdir()
    elif flaw != "missing":
        path.write_bytes({"empty": b"", "text": b"no PEM\n", "cut": content[:-60]}[flaw])


class TestReload:
    """What is logged, and how often."""

    @pytest.fixture
    def secrets(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Secrets:
        caplog.set_level(logging.INFO)
        (tmp_path / "tokens").write_text("first")
        pair = write_certificate(tmp_path, "own")
        config = dataclasses.replace(
            CONFIG,
            tls_cert=pair.certificate,
            tls_key=pair.key,
            token_file=tmp_path / "tokens",
        )
        return Secrets(config)

    def test_nothing_new_is_only_told_who_asks(
        self, secrets: Secrets, caplog: pytest.LogCaptureFixture
    ) -> None:
        secrets.reload(asked=False)
        assert not caplog.messages
        secrets.reload(asked=True)
        assert caplog.messages == [
            f"{x} read again: nothing new" for x in ("tokens", "certificate")
        ]

    def test_a_broken_file_is_told_once_until_asked_or_mended(
        self, secrets: Secrets, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = (tmp_path / "own.key").read_bytes()
        (tmp_path / "own.key").write_text("no key")
        for asked, lines in ((False, 1), (False, 1), (True, 3), (False, 3)):
            secrets.reload(asked=asked)
            assert len(caplog.messages) == lines
        (tmp_path / "own.key").write_bytes(good)
        secrets.reload(asked=False)
        assert len(caplog.messages) == 3
        (tmp_path / "own.key").write_text("no key")
        secrets.reload(asked=False)
        assert len(caplog.messages) == 4

    def test_tokens_go_on_while_the_certificate_is_broken(
        self, secrets: Secrets, tmp_path: Path
    ) -> None:
        (tmp_path / "own.key").unlink()
        (tmp_path / "tokens").write_text("second")
        secrets.reload(asked=False)
        secrets.check_token("Bearer second")
        with pytest.raises(Unauthenticated):
            secrets.check_token("Bearer first")


TLS = {"tls_cert": Path("/c"), "tls_key": Path("/k")}
CALLERS = ({"tokens": ("t",)}, {"token_file": Path("/t")}, {"tls_client_ca": Path("/ca")})


class TestExposure:
    """The address decides, and `insecure`."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
    def test_loopback_may_be_open(self, host: str) -> None:
        check_exposure(dataclasses.replace(CONFIG, host=host))

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "fe80::1"])
    @pytest.mark.parametrize("fields", [{}, TLS, *CALLERS])
    def test_others_need_both(
        self, host: str, fields: dict[str, object], caplog: pytest.LogCaptureFixture
    ) -> None:
        open_one = dataclasses.replace(CONFIG, host=host, **fields)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="--insecure") as caught:
            check_exposure(open_one)
        assert ("--tls-cert" in str(caught.value)) == ("tls_cert" not in fields)
        check_exposure(dataclasses.replace(open_one, insecure=True))
        assert "--insecure allows it" in caplog.text

    @pytest.mark.parametrize("callers", CALLERS)
    def test_both_are_enough(
        self, callers: dict[str, object], caplog: pytest.LogCaptureFixture
    ) -> None:
        fields = {"host": "0.0.0.0", **TLS, **callers}
        check_exposure(dataclasses.replace(CONFIG, **fields))  # type: ignore[arg-type]
        assert not caplog.text


class TestHosts:
    """On loopback the name that a request gives the server tells whether a page may be behind."""

    @pytest.mark.parametrize(
        "given",
        [
            *("", "localhost", "LocalHost:8080", "localhost.", "a.b.localhost:1", "127.0.0.1"),
            *("127.8.9.1:80", "[::1]", "[::1]:8080", "192.0.2.1:80", "[2001:db8::1]:80"),
        ],
    )
    def test_what_cannot_lead_elsewhere_is_answered(self, given: str) -> None:
        host_check("127.0.0.1", is_guarded=False)(given)

    @pytest.mark.parametrize(
        "given",
        [
            *("example.com", "example.com:8080", "localhost.example.com", "notlocalhost", "::1"),
            *("127.0.0.1.example.com", "127.0.0.1@example.com", "[example.com]:80", ":80", "a]"),
            *("0x7f.1", "2130706433", "é", "localhost example.com", "." * 5000),
        ],
    )
    def test_other_names_are_refused(self, given: str) -> None:
        with pytest.raises(InvalidRequest, match="does not answer to the name") as caught:
            host_check("::1", is_guarded=False)(given)
        assert caught.value.reason == "FOREIGN_HOST"
        assert len(str(caught.value)) < 500

    def test_the_name_that_was_listened_on_is_answered(self) -> None:
        host_check("LOCALHOST", is_guarded=False)("localhost:80")

    @pytest.mark.parametrize(
        ("host", "is_guarded"), [("127.0.0.1", True), ("0.0.0.0", False), ("192.0.2.1", False)]
    )
    def test_elsewhere_any_name_is(self, host: str, is_guarded: bool) -> None:
        host_check(host, is_guarded=is_guarded)("example.com")
