"""`deploy/kserve` fits KServe's API, Kubernetes' own, and the server that it runs."""

from __future__ import annotations

import copy
import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import kubernetes_validate
import numpy as np
import promql_parser
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.artifacts import REPOSITORY
from tests.environments import keep_environment
from tests.serving import Server, serving
from unitvec_protos.inference import inference_pb2, inference_pb2_grpc
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.flags import parse_config

HERE = Path(__file__).parent
KSERVE = REPOSITORY / "deploy" / "kserve"
PAGE = (REPOSITORY / "docs" / "operations" / "kserve.md").read_text("utf-8")

[RUNTIME] = yaml.safe_load_all((KSERVE / "servingruntime.yaml").read_text("utf-8"))
SERVICE, REPLICAS = yaml.safe_load_all((KSERVE / "inferenceservice.yaml").read_text("utf-8"))
[CONTAINER] = RUNTIME["spec"]["containers"]
PREDICTOR = SERVICE["spec"]["predictor"]
NAME = SERVICE["metadata"]["name"]
KILLED_AFTER_S = 30
"""Kubernetes' default, which KServe leaves as it is."""


def environ() -> dict[str, str]:
    """Variables of the container, with those of the image."""
    found = {item["name"]: item["value"] for item in CONTAINER["env"]}
    return {"UNITVEC_HOST": "0.0.0.0"} | found


def arguments(models: Path | str = "/mnt/models") -> list[str]:
    """Arguments as KServe fills them in, with the artifact somewhere else."""
    filled = [arg.replace("{{.Name}}", NAME) for arg in CONTAINER["args"]]
    assert all("{{" not in arg for arg in filled)
    return [arg.replace("/mnt/models", str(models)) for arg in filled]


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Holds objects against KServe's own classes, and returns what these have against them."""
    python = keep_environment(HERE / "requirements.txt")
    path = tmp_path_factory.mktemp("kserve") / "objects.json"

    def run(*objects: Any) -> str:
        path.write_text(json.dumps(objects), "utf-8")
        command = [str(python), str(HERE / "check.py"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout.strip() or done.stderr

    return run


@pytest.mark.deep
class TestSchemas:
    def test_objects_are_those_of_the_published_api(self, check: Callable[..., str]) -> None:
        assert check(RUNTIME, SERVICE) == "ok"

    @pytest.mark.parametrize(
        ("path", "value", "complaint"),
        [
            (("spec", "protocolVersion"), ["grpc-v2"], "has no ['protocolVersion']"),
            (("spec", "supportedModelFormats", 0, "priority"), "1", "is '1', not int"),
            (("spec", "supportedModelFormats", 0, "autoSelected"), True, "has no ['autoSelected']"),
            (("spec", "containers"), None, "must not be `None`"),
        ],
    )
    def test_would_see_a_mistake(
        self, check: Callable[..., str], path: tuple[Any, ...], value: object, complaint: str
    ) -> None:
        wrong = copy.deepcopy(RUNTIME)
        place = wrong
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        if value is None:
            del place[path[-1]]
        assert complaint in check(wrong)


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_container_is_one_of_kubernetes(version: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME},
        "spec": {"containers": [CONTAINER]},
    }
    kubernetes_validate.validate(pod, version, strict=True)
    kubernetes_validate.validate(REPLICAS, version, strict=True)


class TestWiring:
    def test_the_service_asks_for_what_the_runtime_offers(self) -> None:
        model, spec = PREDICTOR["model"], RUNTIME["spec"]
        [offered] = spec["supportedModelFormats"]
        assert model["modelFormat"] == {key: offered[key] for key in ("name", "version")}
        assert offered["autoSelect"]
        assert model["protocolVersion"] in spec["protocolVersions"]

    def test_kserve_takes_the_first_port_for_grpc(self) -> None:
        config = parse_config(arguments(), environ())
        ports = [(port["name"], port["containerPort"]) for port in CONTAINER["ports"]]
        assert ports == [("grpc", config.port), ("metrics", config.metrics_port)]
        annotations = RUNTIME["spec"]["annotations"]
        assert annotations["prometheus.kserve.io/port"] == str(config.metrics_port)
        [port] = REPLICAS["spec"]["ports"]
        assert (port["targetPort"], port["port"]) == ports[0]

    def test_the_image_is_made_for_such_variables(self) -> None:
        assert "UNITVEC_HOST=0.0.0.0" in (REPOSITORY / "Dockerfile").read_text("utf-8")

    def test_a_replica_has_time_to_drain(self) -> None:
        hearing_s = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
        config = parse_config(arguments(), environ())
        assert 0 < hearing_s + config.grace_s < KILLED_AFTER_S

    def test_clients_see_every_replica(self) -> None:
        assert REPLICAS["spec"]["clusterIP"] == "None"
        assert REPLICAS["spec"]["selector"] == {"serving.kserve.io/inferenceservice": NAME}
        assert f"dns:///{REPLICAS['metadata']['name']}:50051" in PAGE

    def test_the_autoscaler_asks_for_what_is_exported(self) -> None:
        external, cpu = PREDICTOR["autoScaling"]["metrics"]
        query = external["external"]["metric"]["query"]
        found: list[Any] = []
        promql_parser.walk(promql_parser.parse(query), pre_visit=found.append)
        selectors = [node for node in found if isinstance(node, promql_parser.VectorSelector)]
        exported = (REPOSITORY / "docs" / "operations" / "monitoring.md").read_text("utf-8")
        assert {node.name for node in selectors} == {
            "unitvec_queue_tokens",
            "unitvec_throughput_tokens_per_second",
        }
        assert all(f"| `{node.name}` |" in exported for node in selectors)
        assert f'model="{NAME}"' in query
        assert cpu["resource"]["name"] == "cpu"


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[Server]:
    """The server as the runtime starts it, on free ports of this machine."""
    local = {"UNITVEC_HOST": "127.0.0.1", "UNITVEC_METRICS_HOST": "127.0.0.1"}
    variables = environ() | local | {"UNITVEC_METRICS_PORT": "0"}
    with serving(*arguments(artifact), variables=variables) as found:
        yield found


class TestServer:
    def test_it_answers_the_protocol_under_the_services_name(self, server: Server) -> None:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(server.channel)
        assert stub.ModelReady(inference_pb2.ModelReadyRequest(name=NAME)).ready
        text = b"a cat on a mat"
        request = inference_pb2.ModelInferRequest(
            model_name=NAME, raw_input_contents=[struct.pack("<I", len(text)) + text]
        )
        request.inputs.add(name="text", datatype="BYTES", shape=[1])
        [found] = stub.ModelInfer(request).raw_output_contents
        expected = server.stub.Embed(pb.EmbedRequest(texts=[text.decode()])).embeddings.data
        assert found == expected
        assert np.linalg.norm(np.frombuffer(found, "<f4")) == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize("kind", ["startupProbe", "readinessProbe", "livenessProbe"])
    def test_probes_ask_what_it_answers(self, server: Server, kind: str) -> None:
        probe = CONTAINER[kind]["grpc"]
        request = health_pb2.HealthCheckRequest(service=probe.get("service", ""))
        reply = health_pb2_grpc.HealthStub(server.channel).Check(request)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING

    def test_another_name_is_not_found(self, server: Server) -> None:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(server.channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelMetadata(inference_pb2.ModelMetadataRequest(name="another"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
