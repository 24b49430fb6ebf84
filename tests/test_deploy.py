"""What lies in `deploy/` is well-formed, and fits the server that it deploys."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from grpc_health.v1 import health_pb2

from tests.chaos.proxy import envoy_path
from tests.e2e.certificates import write_certificate
from unitvec_client.cli.flags import build_parser
from unitvec_server.config import ServerConfig
from unitvec_server.flags import parse_config
from unitvec_server.observability.memory import most_client_bytes
from unitvec_server.rpc.health import Health

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OPERATIONS = "".join(
    page.read_text("utf-8") for page in sorted((ROOT / "docs" / "operations").glob("*.md"))
)

CLUSTERS = ("1.30", "1.37")
"""The oldest with everything that is used (preStop sleep), and the newest that is known."""

OWN_KINDS = {"Kustomization", "Component"}
OPERATOR_KINDS = {"PodMonitor"}
MIB = 2**20
PROCESS_BYTES = 256 * MIB
"""Of a process that serves all-MiniLM-L6-v2 in fp32 under load, from docs/operations."""


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def manifests() -> Iterator[Path]:
    """Those that stand alone; the files of `tls` and `http` are patches."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if load(path)["kind"] not in OWN_KINDS and path.parent.name not in ("tls", "http"):
            yield path


def build(folder: Path) -> list[dict[str, Any]]:
    """What kustomize makes of it."""
    if tool := shutil.which("kustomize"):
        command = [tool, "build"]
    elif tool := shutil.which("kubectl"):
        command = [tool, "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is on PATH")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    [container] = pod_of(deployment)["spec"]["containers"]
    return container


def config_of(deployment: dict[str, Any]) -> ServerConfig:
    """What the server reads there."""
    environ = {item["name"]: item["value"] for item in container_of(deployment)["env"]}
    image = re.findall(r"(UNITVEC_\w+)=(\S+)", (ROOT / "Dockerfile").read_text("utf-8"))
    return parse_config([], dict(image[-2:]) | environ)


def only(kind: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    [found] = [document for document in documents if document["kind"] == kind]
    return found


@pytest.fixture(params=["base", "."])
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Plaintext with native probes, and everything."""
    return build(KUBERNETES / request.param)


async def answers(service: str) -> bool:
    """Whether health of the server knows of it."""
    health = Health()
    await health.set_serving(serving=True)
    request = health_pb2.HealthCheckRequest(service=service)
    reply = await health.Check(request, None)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


BASE = load(KUBERNETES / "base" / "deployment.yaml")


@pytest.mark.parametrize("version", CLUSTERS)
class TestSchemas:
    def test_manifests(self, version: str) -> None:
        for path in manifests():
            if load(path)["kind"] not in OPERATOR_KINDS:
                kubernetes_validate.validate(load(path), version, strict=True)

    def test_rendered(self, version: str, rendered: list[dict[str, Any]]) -> None:
        for document in rendered:
            if document["kind"] not in OPERATOR_KINDS:
                kubernetes_validate.validate(document, version, strict=True)

    def test_would_see_a_mistake(self, version: str) -> None:
        wrong = BASE | {"spec": BASE["spec"] | {"replica": 3}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, version, strict=True)


class TestDeployment:
    def test_every_variable_is_one_of_the_server(self) -> None:
        known = {f"UNITVEC_{name.upper()}" for name in ServerConfig.__dataclass_fields__}
        assert {item["name"] for item in container_of(BASE)["env"]} <= known

    def test_the_server_accepts_its_variables(self, rendered: list[dict[str, Any]]) -> None:
        config = config_of(only("Deployment", rendered))
        assert config.host == "0.0.0.0"
        assert config.insecure == (config.tls_cert is None)

    def test_ports_are_those_of_the_server(self) -> None:
        ports = {port["name"]: port["containerPort"] for port in container_of(BASE)["ports"]}
        config = config_of(BASE)
        assert ports == {"grpc": config.port, "metrics": config.metrics_port}

    async def test_native_probes_ask_what_the_server_answers(self) -> None:
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container_of(BASE)[kind]["grpc"]
            assert probe["port"] == config_of(BASE).port
            assert await answers(probe.get("service", ""))

    async def test_probes_over_tls_are_commands_of_the_client(self) -> None:
        container = container_of(only("Deployment", build(KUBERNETES)))
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            assert "grpc" not in probe
            name, *arguments = probe["exec"]["command"]
            args = build_parser().parse_args(arguments)
            assert (name, args.command, args.tls) == ("unitvec", "health", True)
            assert await answers(args.service or "")
            assert args.timeout_s < probe["timeoutSeconds"]

    def test_kubernetes_leaves_time_to_drain(self) -> None:
        spec = pod_of(BASE)["spec"]
        hearing_s = container_of(BASE)["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert hearing_s > 0
        needed_s = hearing_s + config_of(BASE).grace_s + 10
        assert spec["terminationGracePeriodSeconds"] >= needed_s

    def test_kubernetes_sets_no_variables_of_its_own(self) -> None:
        assert pod_of(BASE)["spec"]["enableServiceLinks"] is False

    def test_nothing_is_privileged_or_writable(self) -> None:
        pod, own = pod_of(BASE)["spec"]["securityContext"], container_of(BASE)["securityContext"]
        user = re.findall(
            r"^USER (\d+):(\d+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE
        )
        assert user == [(str(pod["runAsUser"]), str(pod["runAsGroup"]))]
        assert pod["runAsNonRoot"]
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own["readOnlyRootFilesystem"]
        assert not own["allowPrivilegeEscalation"]
        assert own["capabilities"] == {"drop": ["ALL"]}

    def test_files_lie_in_mounted_secrets(self, rendered: list[dict[str, Any]]) -> None:
        deployment = only("Deployment", rendered)
        mounts = {
            item["mountPath"]: item["name"] for item in container_of(deployment)["volumeMounts"]
        }
        volumes = {item["name"]: item["secret"] for item in pod_of(deployment)["spec"]["volumes"]}
        assert set(mounts.values()) == set(volumes)
        config = config_of(deployment)
        for path in filter(None, (config.token_file, config.tls_cert, config.tls_key)):
            volume = volumes[mounts[str(path.parent)]]
            taken = [item["path"] for item in volume.get("items", [])]
            assert not taken or path.name in taken  # without `items`, all of the Secret
            assert f"generic {volume['secretName']}" in OPERATIONS

    def test_the_worst_case_fits_the_memory(self) -> None:
        """The table of docs/operations/memory.md, with the values set here."""
        config, limits = config_of(BASE), container_of(BASE)["resources"]["limits"]
        # The base has no TLS; where it is added, each connection costs more.
        with_tls = dataclasses.replace(config, tls_cert=Path("tls.crt"))
        clients = most_client_bytes(with_tls, dim=384, workers=int(limits["cpu"]))
        worst = PROCESS_BYTES + clients
        assert worst <= bytes_of(limits["memory"])


def bytes_of(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": MIB, "Gi": 1024 * MIB}[unit]


@pytest.fixture
def with_http(tmp_path: Path) -> list[dict[str, Any]]:
    """The base with HTTP beside gRPC."""
    parts = {
        part: os.path.relpath(KUBERNETES / part, tmp_path.resolve()) for part in ("base", "http")
    }
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{parts['base']}]\ncomponents: [{parts['http']}]\n", "utf-8"
    )
    return build(tmp_path)


class TestHTTP:
    @pytest.mark.parametrize("version", CLUSTERS)
    def test_fits_the_schemas(self, version: str, with_http: list[dict[str, Any]]) -> None:
        for document in with_http:
            kubernetes_validate.validate(document, version, strict=True)

    def test_callers_reach_the_servers_port(self, with_http: list[dict[str, Any]]) -> None:
        deployment = only("Deployment", with_http)
        ports = {port["name"]: port["containerPort"] for port in container_of(deployment)["ports"]}
        assert ports["http"] == config_of(deployment).http_port
        assert set(ports) == {"grpc", "metrics", "http"}
        service = only("Service", with_http)["spec"]["ports"]
        assert {port["targetPort"] for port in service} == {"grpc", "http"}
        assert all(port["port"] == ports[port["targetPort"]] for port in service)
        callers, metrics = only("NetworkPolicy", with_http)["spec"]["ingress"]
        assert [port["port"] for port in callers["ports"]] == ["grpc", "http"]
        assert [port["port"] for port in metrics["ports"]] == ["metrics"]

    def test_the_image_names_the_port(self, with_http: list[dict[str, Any]]) -> None:
        exposed = re.findall(
            r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE
        )
        config = config_of(only("Deployment", with_http))
        assert exposed == [f"{config.port} {config.http_port}"]


class TestWiring:
    def test_all_select_the_pods(self) -> None:
        labels = pod_of(BASE)["metadata"]["labels"].items()
        base, found = KUBERNETES / "base", []
        found.append(BASE["spec"]["selector"]["matchLabels"])
        found.append(load(base / "service.yaml")["spec"]["selector"])
        found.append(load(base / "poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"])
        found.append(load(base / "networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"])
        monitor = load(KUBERNETES / "monitoring" / "podmonitor.yaml")
        found.append(monitor["spec"]["selector"]["matchLabels"])
        assert all(selector.items() <= labels for selector in found)

    def test_named_ports_exist(self) -> None:
        names = {port["name"] for port in container_of(BASE)["ports"]}
        service = load(KUBERNETES / "base" / "service.yaml")["spec"]["ports"]
        policy = load(KUBERNETES / "base" / "networkpolicy.yaml")["spec"]["ingress"]
        monitor = load(KUBERNETES / "monitoring" / "podmonitor.yaml")["spec"]
        used = {port["targetPort"] for port in service}
        used |= {port["port"] for rule in policy for port in rule["ports"]}
        used |= {end["port"] for end in monitor["podMetricsEndpoints"]}
        assert used == names

    def test_clients_see_every_replica(self) -> None:
        assert load(KUBERNETES / "base" / "service.yaml")["spec"]["clusterIP"] == "None"

    def test_the_autoscaler_reads_what_the_adapter_makes(self) -> None:
        scaler = load(KUBERNETES / "autoscaling" / "horizontalpodautoscaler.yaml")["spec"]
        assert scaler["scaleTargetRef"]["name"] == BASE["metadata"]["name"]
        read = {item["pods"]["metric"]["name"] for item in scaler["metrics"] if "pods" in item}
        made = {
            rule["name"]["as"] for rule in load(DEPLOY / "prometheus" / "adapter.yaml")["rules"]
        }
        assert read == made


class TestProxies:
    def test_envoy_accepts_its_configuration(self, tmp_path: Path) -> None:
        if not (envoy := envoy_path()):
            pytest.skip("no envoy; `make install` brings one on Linux")
        config = local("envoy.yaml", tmp_path)
        command = [envoy, "--mode", "validate", "--log-level", "warn", "-c", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # neither errors nor fields that will go

    async def test_envoy_asks_for_the_health_that_the_server_answers(self) -> None:
        [cluster] = load(DEPLOY / "envoy.yaml")["static_resources"]["clusters"]
        [check] = cluster["health_checks"]
        assert await answers(check["grpc_health_check"]["service_name"])

    def test_nginx_accepts_its_configuration(self, tmp_path: Path) -> None:
        if not (nginx := shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")):
            pytest.skip("no nginx")
        config = local("nginx.conf", tmp_path)
        command = [nginx, "-t", "-p", str(tmp_path), "-c", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def local(name: str, folder: Path) -> Path:
    """The same configuration, with its files under `folder`."""
    pair = write_certificate(folder, "localhost")
    text = (DEPLOY / name).read_text("utf-8")
    text = text.replace("/etc/unitvec/tls/tls.crt", str(pair.certificate))
    text = text.replace("/etc/unitvec/tls/tls.key", str(pair.key))
    text = text.replace("/run/", f"{folder}/").replace("/var/log/nginx/", f"{folder}/")
    config = folder / name
    config.write_text(text, "utf-8")
    return config


def test_the_dockerfile_passes_its_linter() -> None:
    beside = str(Path(sys.executable).parent)
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=beside)
    if hadolint is None:
        pytest.skip("no hadolint; `make install` brings one")
    command = [hadolint, str(ROOT / "Dockerfile")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == ""


def test_commands_of_the_docs_name_files_that_exist() -> None:
    for path in re.findall(r"\bdeploy/[\w./-]*\w", OPERATIONS):
        if "*" not in path:
            assert list(ROOT.glob(path + "*")), path
