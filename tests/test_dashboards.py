"""Every query of the dashboard, the alerts and the adapter asks for what the server exports."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.certificates import write_certificate
from tests.serving import ServerProcess

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"

TARGET_LABELS = {"instance", "job", "namespace", "pod"}
"""What Prometheus adds to each series."""

OVER_COUNTERS = {"rate", "irate", "increase"}


class Metric:
    """A series by name: its kind and its labels."""

    def __init__(self, kind: str, labels: set[str]) -> None:
        self.kind, self.labels = kind, labels | TARGET_LABELS


def exported() -> dict[str, Metric]:
    """All series of the table of metrics, which a test below compares with a server."""
    text = (ROOT / "docs" / "operations" / "monitoring.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", text, re.MULTILINE)
    return {name: metric for row in rows for name, metric in series(*row)}


def series(name: str, kind: str, labels: str) -> Iterator[tuple[str, Metric]]:
    """What one row of the table stands for."""
    own = labels_of(labels)
    if kind != "histogram":
        yield name, Metric(kind, own)
        return
    yield f"{name}_bucket", Metric("bucket", own | {"le"})
    yield f"{name}_sum", Metric("counter", own)
    yield f"{name}_count", Metric("counter", own)


def labels_of(cell: str) -> set[str]:
    """Of one cell, which may point to another row."""
    own = set(re.findall(r"`(\w+)`", cell)) - {"started"}
    return own | (
        {"grpc_type", "grpc_service", "grpc_method"} if re.search("same|as `", cell) else own
    )


EXPORTED = exported()


def dashboard() -> Any:
    return json.loads((DEPLOY / "grafana" / "unitvec.json").read_text("utf-8"))


def panels() -> list[Any]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def alerts() -> list[Any]:
    [group] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8"))["groups"]
    return list(group["rules"])


def queries() -> Iterator[tuple[str, str]]:
    """Where each is, and its text as Prometheus gets it."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    [rule] = yaml.safe_load((DEPLOY / "prometheus" / "adapter.yaml").read_text("utf-8"))["rules"]
    yield "adapter: seriesQuery", rule["seriesQuery"]
    filled = {"<<.GroupBy>>": "pod", "<<.LabelMatchers>>": 'namespace="a",pod=~"b"'}
    yield "adapter", re.sub("|".join(filled), lambda found: filled[found[0]], rule["metricsQuery"])


QUERIES = [pytest.param(query, id=f"{place} {n}") for n, (place, query) in enumerate(queries())]


def nodes(query: str) -> list[Any]:
    """All parts of a query; raises ValueError if it is none."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(query), pre_visit=found.append)
    return found


def selectors(query: str) -> Iterator[Any]:
    """Each selector of series."""
    for node in nodes(query):
        if isinstance(node, promql_parser.VectorSelector):
            yield node


def check(query: str) -> None:
    """Names, labels and kinds: what a typing error would turn into an empty panel."""
    known: set[str] = set()
    for selector in selectors(query):
        metric = EXPORTED[selector.name]
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= metric.labels, selector.name
        known |= metric.labels
    assert known, "asks for no series"
    for node in nodes(query):
        check_labels(node, known)
        check_kind(node)


def check_labels(node: Any, known: set[str]) -> None:
    """Grouping and matching only by labels that are there."""
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
        assert set(node.modifier.labels) <= known
    if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
        assert set(node.modifier.matching.labels) <= known


def check_kind(node: Any) -> None:
    """Rates of counters, quantiles of buckets."""
    if not isinstance(node, promql_parser.Call):
        return
    kinds = {EXPORTED[found.name].kind for arg in node.args for found in selectors(arg.prettify())}
    if node.func.name in OVER_COUNTERS:
        assert kinds <= {"counter", "bucket"}
    if node.func.name == "histogram_quantile":
        assert kinds == {"bucket"}


@pytest.mark.parametrize("query", QUERIES)
def test_query_asks_for_what_is_exported(query: str) -> None:
    check(query)


@pytest.mark.parametrize("query", QUERIES)
def test_counters_are_never_read_raw(query: str) -> None:
    """Their value says how old the process is."""
    ranged = [
        node.vector_selector.name
        for node in nodes(query)
        if isinstance(node, promql_parser.MatrixSelector)
    ]
    for selector in selectors(query):
        if EXPORTED[selector.name].kind in ("counter", "bucket"):
            assert selector.name in ranged


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(unitvec_nonsense)",
        "sum(unitvec_calls",
        'sum(unitvec_calls{method="Embed"})',
        "sum by (metod) (rate(unitvec_texts_total[5m]))",
        "rate(unitvec_queue_tokens[5m])",
        "histogram_quantile(0.9, sum by (le) (rate(unitvec_queue_seconds_sum[5m])))",
    ],
)
def test_a_mistake_is_seen(wrong: str) -> None:
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(wrong)


def test_the_dashboard_shows_all_that_matters() -> None:
    """Every metric of ours is in a panel, apart from the few that panels need no more."""
    shown = {selector.name for _, query in queries() for selector in selectors(query)}
    bases = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    own = {re.sub("_(bucket|sum|count)$", "", name) for name in EXPORTED if "unitvec_" in name}
    assert own <= bases


def test_panels_are_told_apart() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in found)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in found)
    assert {"datasource", "instance"} == {
        item["name"] for item in dashboard()["templating"]["list"]
    }


def test_alerts_are_explained() -> None:
    text = (ROOT / "docs" / "operations" / "monitoring.md").read_text("utf-8")
    for alert in alerts():
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"]["summary"]
        assert f"| `{alert['alert']}` |" in text


def test_alerts_fire_in_trouble_alone() -> None:
    if not (promtool := shutil.which("promtool")):
        pytest.skip("no promtool on PATH; it comes with Prometheus")
    command = [promtool, "test", "rules", str(DEPLOY / "prometheus" / "alerts_test.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_memory_alert_knows_the_limit() -> None:
    """90 % of that of the container."""
    folder = DEPLOY / "kubernetes" / "base"
    pod = yaml.safe_load((folder / "deployment.yaml").read_text("utf-8"))["spec"]["template"]
    limit = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
    [query] = [alert["expr"] for alert in alerts() if alert["alert"] == "UnitvecMemory"]
    assert f"> {int(limit.removesuffix('Mi')) * 2**20 * 9 // 10})" in query


def test_the_table_is_what_a_server_exports(artifact: Path, tmp_path: Path) -> None:
    """So whatever is checked against the table is checked against the server."""
    pair = write_certificate(tmp_path, "own")
    flags = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    ports = ("--metrics-port", "0", "--http-port", "0")
    process = ServerProcess("--model", str(artifact), *ports, *flags)
    try:
        url = process.wait_for_log("metrics on ").split()[-1]
        address = process.wait_for_log("HTTP on ").split()[2]
        process.wait_until_serving()
        trust = ssl.create_default_context(cafile=str(pair.certificate))
        trust.check_hostname = False
        with urllib.request.urlopen(f"{address}/v1/models", timeout=30, context=trust) as reply:
            assert reply.status == 200
        with urllib.request.urlopen(url, timeout=30) as reply:
            found = scraped(reply.read().decode())
    finally:
        process.stop()
    assert found == {name: metric.labels - TARGET_LABELS for name, metric in EXPORTED.items()}


def scraped(text: str) -> dict[str, set[str]]:
    """Labels by name of series."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found
