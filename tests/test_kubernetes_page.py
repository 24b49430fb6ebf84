"""What docs/operations/kubernetes.md says of callers is so."""

from __future__ import annotations

import re

import kubernetes_validate
import yaml

from tests.test_deploy import (
    BASE,
    CLUSTERS,
    KUBERNETES,
    ROOT,
    config_of,
    container_of,
    load,
    pod_of,
)


def test_the_caller_is_let_in_and_validates() -> None:
    page = (ROOT / "docs" / "operations" / "kubernetes.md").read_text("utf-8")
    [block] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    caller = yaml.safe_load(block)
    for version in CLUSTERS:
        kubernetes_validate.validate(caller, version, strict=True)
    policy = load(KUBERNETES / "base" / "networkpolicy.yaml")["spec"]["ingress"][0]
    allowed = policy["from"][0]["podSelector"]["matchLabels"].items()
    assert allowed <= pod_of(caller)["metadata"]["labels"].items()
    compile(container_of(caller)["args"][0], "caller", "exec")
    secrets = {volume["secret"]["secretName"] for volume in pod_of(caller)["spec"]["volumes"]}
    assert secrets == {"unitvec-tokens", "unitvec-tls"}


def test_new_replicas_are_seen_within_five_minutes() -> None:
    """Clients look for addresses when a connection ends."""
    assert config_of(BASE).max_connection_age_s <= 300
