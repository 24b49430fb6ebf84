"""TLS, mutual TLS, bearer tokens, and the addresses a server refuses to listen on."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e.certificates import Pair, write_certificate
from tests.e2e.test_lifecycle import refused
from unitvec_client import Client, ConnectionOptions, UnauthenticatedError, UnavailableError
from unitvec_protos.v1 import embedding_pb2 as pb

if TYPE_CHECKING:
    from tests.serving import Server

Start = Callable[..., "Server"]
Ask = Callable[..., reflection_pb2.ServerReflectionResponse]

PROTO = Path(__file__).parents[2] / "protos" / "unitvec" / "v1" / "embedding.proto"


def embed(server: Server, **options: object) -> int:
    """Embeds one text over a new connection with these options; its rows."""
    own = (("grpc.use_local_subchannel_pool", 1),)
    connection = ConnectionOptions(**options, extra_options=own)  # type: ignore[arg-type]
    with Client(server.target, connection=connection, timeout_s=20) as client:
        return len(client.embed(["a cat"]))


def trusting(certificate: Path) -> dict[str, object]:
    """Options of a client that trusts this certificate."""
    return {"tls": True, "root_certificates": certificate, "server_name": "localhost"}


class TestTokens:
    def test_any_of_file_and_environment_opens(
        self, start: Start, artifact: Path, tmp_path: Path
    ) -> None:
        """None or a wrong one does not."""
        tokens = tmp_path / "tokens"
        tokens.write_text("# for a team\nold-token\n\nnew-token\n")
        args = ("--model", str(artifact), "--token-file", str(tokens))
        server = start(*args, variables={"UNITVEC_TOKENS": "one,other"})
        for token in ("old-token", "new-token", "one", "other"):
            assert embed(server, token=token) == 1
        for wrong in ({}, {"token": "no-token"}, {"token": "old-toke"}, {"token": "one,other"}):
            with pytest.raises(UnauthenticatedError):
                embed(server, **wrong)

    def test_health_is_exempt_and_reflection_is_not(self, start: Start, artifact: Path) -> None:
        """Probes carry no token; who asks for the contract is a caller."""
        server = start("--model", str(artifact), variables={"UNITVEC_TOKENS": "secret"})
        health = health_pb2_grpc.HealthStub(server.channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        assert health.Check(health_pb2.HealthCheckRequest()).status == serving
        assert next(health.Watch(health_pb2.HealthCheckRequest())).status == serving
        ask = reflection_pb2_grpc.ServerReflectionStub(server.channel).ServerReflectionInfo
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            next(ask(iter([question])))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        header = (("authorization", "Bearer secret"),)
        assert next(ask(iter([question]), metadata=header)).list_services_response.service

    def test_strangers_are_refused_before_their_message_is_read(
        self, start: Start, artifact: Path
    ) -> None:
        """A message beyond the bound, which reading would refuse as RESOURCE_EXHAUSTED."""
        server = start(
            *("--model", str(artifact), "--max-message-bytes", "1000", "--max-text-bytes", "100"),
            variables={"UNITVEC_TOKENS": "secret"},
        )
        request = pb.EmbedRequest(texts=["x" * 10_000])
        codes = []
        for header in ((), (("authorization", "Bearer secret"),)):
            with pytest.raises(grpc.RpcError) as caught:
                server.stub.Embed(request, metadata=header)
            codes.append(caught.value.code())
        assert codes == [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED]

    def test_rotation(self, start: Start, artifact: Path, tmp_path: Path) -> None:
        """SIGHUP takes the new over and ends the old; an unusable file leaves all as it is."""
        tokens = tmp_path / "tokens"
        tokens.write_text("old-token")
        server = start("--model", str(artifact), "--token-file", str(tokens))
        for content, expected in (
            ("old-token\nnew-token", "tokens reloaded"),
            ("new-token", "tokens reloaded"),
            ("", "tokens not reloaded, the old stays in use"),
            ("a secret with spaces", "tokens not reloaded, the old stays in use"),
        ):
            # In one step, else the emptied file may be seen before its new content.
            (tmp_path / "next").write_text(content)
            (tmp_path / "next").replace(tokens)
            server.process.send(signal.SIGHUP)
            server.process.wait_for_log(expected)
            assert embed(server, token="new-token") == 1
        with pytest.raises(UnauthenticatedError):
            embed(server, token="old-token")
        assert server.process.stop() == 0
        assert not [
            line for line in server.process.output if '-token"' in line or "with spa" in line
        ]

    @pytest.mark.parametrize("token", ["two words", "umläut", 'quo"te'])
    def test_a_malformed_one_is_refused_unseen(
        self, artifact: Path, tmp_path: Path, token: str
    ) -> None:
        (tmp_path / "tokens").write_text(token, encoding="utf-8")
        line = refused(
            "--port", "0", "--model", str(artifact), "--token-file", str(tmp_path / "tokens")
        )
        assert "--token-file" in line
        assert token not in line


def strip_json_names(messages: Iterable[DescriptorProto]) -> None:
    """Takes out what the compiler writes for tools and not for stubs."""
    for message in messages:
        strip_json_names(message.nested_type)
        for field in message.field:
            field.ClearField("json_name")


class TestReflection:
    """On by default; who would not show the contract turns it off."""

    @pytest.fixture(params=["v1", "v1alpha"])
    def ask(self, request: pytest.FixtureRequest) -> Ask:
        """Asks a server one question."""

        def ask(server: Server, **question: str) -> reflection_pb2.ServerReflectionResponse:
            call = server.channel.stream_stream(
                f"/grpc.reflection.{request.param}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            asked = reflection_pb2.ServerReflectionRequest(**question)
            return next(call(iter([asked]), timeout=60))

        return ask

    def test_by_default(self, minilm_server: Server, ask: Ask) -> None:
        listed = ask(minilm_server, list_services="").list_services_response.service
        assert "unitvec.v1.EmbeddingService" in [service.name for service in listed]

    @pytest.mark.parametrize("symbol", ["", ".Embed", ".StreamSimilarity"])
    def test_services_and_methods_are_described_as_they_are_written(
        self, minilm_server: Server, ask: Ask, symbol: str
    ) -> None:
        """With the comments of the .proto, and but for them as the stubs are."""
        symbol = f"unitvec.v1.EmbeddingService{symbol}"
        reply = ask(minilm_server, file_containing_symbol=symbol)
        [data] = reply.file_descriptor_response.file_descriptor_proto
        file = FileDescriptorProto.FromString(data)
        places = file.source_code_info.location
        comments = {tuple(place.path): place.leading_comments for place in places}
        written = " ".join(PROTO.read_text("utf-8").replace("//", " ").split())
        for index, method in enumerate(file.service[0].method):
            comment = comments[6, 0, 2, index]  # the service, its methods, which one
            assert f"{' '.join(comment.split())} rpc {method.name}(" in written
        file.ClearField("source_code_info")
        strip_json_names(file.message_type)
        assert file == FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)

    def test_other_files_are_described_too(self, minilm_server: Server, ask: Ask) -> None:
        reply = ask(minilm_server, file_containing_symbol="grpc.health.v1.Health.Check")
        [data] = reply.file_descriptor_response.file_descriptor_proto
        assert FileDescriptorProto.FromString(data).package == "grpc.health.v1"
        for wrong in (
            {"file_by_filename": "none.proto"},
            {"file_containing_symbol": "unitvec.v1.EmbeddingService.None"},
        ):
            reply = ask(minilm_server, **wrong)
            assert reply.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

    def test_turned_off(self, start: Start, artifact: Path, ask: Ask) -> None:
        server = start("--model", str(artifact), "--reflection", "false")
        with pytest.raises(grpc.RpcError) as caught:
            ask(server, list_services="")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert embed(server) == 1


class TestTls:
    def test_the_server_is_verified(self, start: Start, artifact: Path, tmp_path: Path) -> None:
        """By its certificate, and plaintext is not answered."""
        own, stranger = (write_certificate(tmp_path, name) for name in ("server", "stranger"))
        server = start(*serving_with(artifact, own))
        assert embed(server, **trusting(own.certificate)) == 1
        with pytest.raises(UnavailableError):
            embed(server, **trusting(stranger.certificate))
        with pytest.raises(UnavailableError):
            embed(server)

    def test_clients_are_verified(self, start: Start, artifact: Path, tmp_path: Path) -> None:
        """Only those with a certificate of the named authority get in."""
        own, known, stranger = (write_certificate(tmp_path, name) for name in "abc")
        server = start(*serving_with(artifact, own), "--tls-client-ca", str(known.certificate))
        trusted = trusting(own.certificate)
        shown = {"client_key": known.key, "client_chain": known.certificate}
        assert embed(server, **trusted, **shown) == 1
        wrong = {"client_key": stranger.key, "client_chain": stranger.certificate}
        for options in ({}, wrong):
            with pytest.raises(UnavailableError):
                embed(server, **trusted, **options)

    def test_with_token(self, start: Start, artifact: Path, tmp_path: Path) -> None:
        own = write_certificate(tmp_path, "server")
        server = start(*serving_with(artifact, own), variables={"UNITVEC_TOKENS": "secret"})
        assert embed(server, **trusting(own.certificate), token="secret") == 1
        with pytest.raises(UnauthenticatedError):
            embed(server, **trusting(own.certificate))


def serving_with(artifact: Path, pair: Pair) -> tuple[str, ...]:
    """Flags that serve a model with this certificate."""
    files = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    return ("--model", str(artifact), *files)


class TestRenewal:
    """Certificates and authorities of clients are replaced while serving."""

    def test_on_sighup(self, start: Start, artifact: Path, tmp_path: Path) -> None:
        """New connections get the new, open ones live on; a broken pair changes nothing."""
        own = write_certificate(tmp_path, "server")
        old = Path(shutil.copy(own.certificate, tmp_path / "old.pem"))
        server = start(*serving_with(artifact, own))
        connection = ConnectionOptions(**trusting(old))  # type: ignore[arg-type]
        with Client(server.target, connection=connection) as before:
            assert len(before.embed(["a cat"])) == 1
            write_certificate(tmp_path, "server")
            server.process.send(signal.SIGHUP)
            server.process.wait_for_log("certificate reloaded")
            assert embed(server, **trusting(own.certificate)) == 1
            with pytest.raises(UnavailableError):
                embed(server, **trusting(old))
            assert len(before.embed(["a dog"])) == 1
        new = Path(shutil.copy(own.certificate, tmp_path / "new.pem"))
        own.key.write_bytes(write_certificate(tmp_path, "other").key.read_bytes())
        server.process.send(signal.SIGHUP)
        server.process.wait_for_log("certificate not reloaded, the old stays in use")
        assert embed(server, **trusting(new)) == 1

    def test_soon_after_a_mount_was_switched(
        self, start: Start, artifact: Path, tmp_path: Path
    ) -> None:
        """As Kubernetes does it: one link to a folder of all files, and no signal."""
        for folder in ("first", "second"):
            (tmp_path / folder).mkdir()
            write_certificate(tmp_path / folder, "tls")
        (tmp_path / "data").symlink_to("first")
        pair = Pair(tmp_path / "data" / "tls.pem", tmp_path / "data" / "tls.key")
        server = start(*serving_with(artifact, pair))
        assert embed(server, **trusting(tmp_path / "first" / "tls.pem")) == 1
        (tmp_path / "next").symlink_to("second")
        os.replace(tmp_path / "next", tmp_path / "data")  # noqa: PTH105 - resolves no link
        server.process.wait_for_log("certificate reloaded")
        assert embed(server, **trusting(tmp_path / "second" / "tls.pem")) == 1

    def test_of_the_authorities_of_clients(
        self, start: Start, artifact: Path, tmp_path: Path
    ) -> None:
        """Whoever the old ones signed for stays out from then on."""
        own, first, second = (write_certificate(tmp_path, name) for name in "abc")
        authorities = Path(shutil.copy(first.certificate, tmp_path / "authorities"))
        server = start(*serving_with(artifact, own), "--tls-client-ca", str(authorities))
        shown = [
            trusting(own.certificate) | {"client_key": pair.key, "client_chain": pair.certificate}
            for pair in (first, second)
        ]
        assert embed(server, **shown[0]) == 1
        shutil.copy(second.certificate, tmp_path / "next")
        (tmp_path / "next").replace(authorities)
        server.process.send(signal.SIGHUP)
        server.process.wait_for_log("certificate reloaded")
        assert embed(server, **shown[1]) == 1
        with pytest.raises(UnavailableError):
            embed(server, **shown[0])


class TestExposure:
    """An address that others can reach needs TLS and callers that show who they are."""

    def test_public_plaintext_is_refused(self, artifact: Path) -> None:
        line = refused("--port", "0", "--model", str(artifact), "--host", "0.0.0.0")
        for part in ("--tls-cert", "--token-file", "UNITVEC_TOKENS", "127.0.0.1", "--insecure"):
            assert part in line

    def test_public_without_token_is_refused(self, artifact: Path, tmp_path: Path) -> None:
        own = write_certificate(tmp_path, "server")
        line = refused("--port", "0", "--host", "::", *serving_with(artifact, own))
        assert "--token-file" in line
        assert "--tls-cert" not in line
