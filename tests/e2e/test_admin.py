"""Operators: a service, and tokens, of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

import unitvec_client as uv
from tests.e2e.test_reload import Link
from tests.serving import Server
from unitvec_client.cli.main import main
from unitvec_protos.v1 import admin_pb2 as pb
from unitvec_protos.v1 import admin_pb2_grpc as pb_grpc
from unitvec_server.model.artifact import MANIFEST_FILE

Start = Callable[..., Server]
CALLER, OPERATOR = "token-of-a-caller", "token-of-an-operator"


@pytest.fixture
def link(tmp_path: Path, artifact: Path) -> Link:
    """A link to the tiny model."""
    link = Link(tmp_path / "current")
    link.set(artifact)
    return link


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the token of an operator."""
    path = tmp_path / "admin-tokens"
    path.write_text(f"{OPERATOR}\n", encoding="utf-8")
    return path


@pytest.fixture
def server(start: Start, link: Link, token_file: Path) -> Server:
    """Serves what the link names, for callers and operators."""
    flags = ("--model", f"current={link.path}", "--precision", "fp32")
    secrets = {"UNITVEC_TOKENS": CALLER}
    return start(*flags, "--admin-token-file", str(token_file), variables=secrets)


def client(server: Server, token: str | None) -> uv.Client:
    return uv.Client(server.target, connection=uv.ConnectionOptions(token=token))


def test_each_has_tokens_of_their_own(server: Server) -> None:
    for token in (None, CALLER):
        with client(server, token) as stranger, pytest.raises(uv.UnauthenticatedError):
            stranger.reload_models()
    with client(server, OPERATOR) as operator:
        with pytest.raises(uv.UnauthenticatedError):
            operator.embed("a cat")
        [model] = operator.reload_models()
        assert (model.model, model.outcome, model.reason) == ("current", "unchanged", "")


def test_without_a_file_of_tokens_it_is_not_there(tiny_server: Server) -> None:
    with client(tiny_server, None) as anybody, pytest.raises(uv.UnimplementedError):
        anybody.reload_models()


def test_tokens_are_renewed(server: Server, token_file: Path) -> None:
    token_file.write_text("another\n", encoding="utf-8")
    server.process.wait_for_log("admin tokens reloaded")
    with client(server, OPERATOR) as operator, pytest.raises(uv.UnauthenticatedError):
        operator.reload_models()


def test_what_came_of_it_is_told(server: Server, link: Link, prompted_artifact: Path) -> None:
    with client(server, CALLER) as caller, client(server, OPERATOR) as operator:
        before = caller.embed_result("a cat")
        link.set(prompted_artifact)
        [switched] = operator.reload_models(model="current")
        after = caller.embed_result("a cat")
        assert (switched.outcome, switched.space, switched.bits) == (
            "switched",
            after.space,
            after.bits,
        )
        assert after.space != before.space
        link.set(link.path.parent / "nowhere")
        [refused] = operator.reload_models()
        assert refused.outcome == "refused"
        assert MANIFEST_FILE in refused.reason
        assert refused.bits == after.bits
        with pytest.raises(uv.ModelNotFoundError, match="served: current"):
            operator.reload_models(model="other")


def test_a_caller_who_goes_away_stops_nothing(
    server: Server, link: Link, prompted_artifact: Path
) -> None:
    link.set(prompted_artifact)
    stub = pb_grpc.AdminServiceStub(server.channel)
    call = stub.ReloadModels.future(
        pb.ReloadModelsRequest(), metadata=(("authorization", f"Bearer {OPERATOR}"),)
    )
    server.process.wait_for_log("beside the present one")
    call.cancel()
    server.process.wait_for_log("switched from")
    assert call.code() is grpc.StatusCode.CANCELLED


def test_the_command(
    server: Server, link: Link, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--target", server.target, "--token-file", str(token_file)]
    assert main(["admin", "reload", *flags, "-f", "json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["model"], found["outcome"]) == ("current", "unchanged")
    link.set(link.path.parent / "nowhere")
    assert main(["admin", "reload", *flags, "--model", "current"]) == 1
    assert "refused" in capsys.readouterr().out
