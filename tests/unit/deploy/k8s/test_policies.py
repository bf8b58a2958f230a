"""What a pod may do, whom it may reach, and what must not be in a manifest."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.k8s.manifests import (
    GATEWAYS,
    K8S,
    SERVICES,
    SOURCES,
    component,
    documents,
    of_kind,
    settings_of,
    workloads,
)
from tests.unit.deploy.k8s.metric_names import exposed_names
from venuemesh.subjects import stream_specs

every_source = pytest.mark.parametrize("source", SOURCES)
EVERY = [*SERVICES, "nats"]


@every_source
def test_every_container_is_confined_and_bounded(source: str) -> None:
    """Not root, nothing writable but mounts, no capability, no token of the cluster, bounds on both resources."""
    found = workloads(source)
    assert set(found) == set(EVERY)
    for workload in found.values():
        pod = workload.pod
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "variables such as ROUTER_PORT would refuse the start"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in workload.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][kind])


@every_source
def test_no_secret_is_in_a_manifest(source: str) -> None:
    """Secrets are mounted files of objects that are made elsewhere; no variable holds or refers to one."""
    docs = documents(source)
    assert not of_kind(docs, "Secret")
    text = yaml.safe_dump_all(docs)
    assert not re.search(r"-----BEGIN|\b(0x)?[0-9a-fA-F]{64}\b|secretKeyRef", text)
    for workload in workloads(source).values():
        for container in workload.containers:
            for entry in container.get("env", ()):
                words = re.search(r"SECRET|PASSWORD|TOKEN|KEY", entry["name"])
                assert not words or entry["name"].endswith("_FILE"), entry["name"]


@every_source
@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_has_one_writer(source: str, name: str) -> None:
    """Never two pods of one identity, whatever a rollout, a drained node or a lost one does; nothing scales it."""
    workload = workloads(source)[name]
    assert workload.doc["kind"] == "StatefulSet"
    assert workload.doc["spec"]["replicas"] == 1
    assert workload.doc["spec"]["podManagementPolicy"] == "Parallel", "a rollout must not wait for a venue"
    targets = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in of_kind(documents(source), "HorizontalPodAutoscaler").values()
    }
    assert targets == {"router", "aggregator"}


@every_source
@pytest.mark.parametrize("name", ["router", "aggregator"])
def test_router_and_aggregator_stay_while_nodes_go(source: str, name: str) -> None:
    """At least two on different nodes, one of them taken at a time; no fixed count beside the autoscaler's."""
    docs, workload = documents(source), workloads(source)[name]
    assert "replicas" not in workload.doc["spec"]
    assert of_kind(docs, "HorizontalPodAutoscaler")[name]["spec"]["minReplicas"] >= 2
    budget = of_kind(docs, "PodDisruptionBudget")[name]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= workload.labels.items()
    for constraint in workload.pod["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"].items() <= workload.labels.items()


def selected(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a pod selector of this suite's two forms takes a pod."""
    selector = policy["spec"]["podSelector"]
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ()))


def rules(source: str, name: str, way: str) -> list[dict[str, Any]]:
    """All rules of a direction that apply to a workload's pods."""
    labels = workloads(source)[name].labels
    policies = of_kind(documents(source), "NetworkPolicy").values()
    return [rule for each in policies if selected(each, labels) for rule in each["spec"].get(way, ())]


def peers(rule: dict[str, Any], side: str) -> set[str]:
    """Who a rule names, by the label that says so."""
    found = set()
    for peer in rule[side]:
        if "ipBlock" in peer:
            found.add("addresses")
            continue
        selector = peer.get("podSelector") or peer["namespaceSelector"]
        labels = selector.get("matchLabels") or {"": ",".join(selector["matchExpressions"][0]["values"])}
        found |= set(labels.values())
    return found


def reaches(source: str, name: str, way: str, side: str) -> dict[int, set[str]]:
    """Peers by port."""
    found: dict[int, set[str]] = {}
    for rule in rules(source, name, way):
        for port in rule["ports"]:
            found.setdefault(port["port"], set()).update(peers(rule, side))
    return found


@every_source
def test_everything_not_allowed_is_denied(source: str) -> None:
    """For pods of the namespace that nobody thought of, too."""
    policy = of_kind(documents(source), "NetworkPolicy")["default-deny"]["spec"]
    assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@every_source
@pytest.mark.parametrize("name", GATEWAYS)
def test_gateway_is_reached_by_router_aggregator_and_operators_only(source: str, name: str, tmp_path: Path) -> None:
    """And reaches the broker, DNS and its venue, which is in its own pod on a trial cluster."""
    port = settings_of(source, name, tmp_path).grpc.port
    assert reaches(source, name, "ingress", "from") == {port: {"router", "aggregator", "operator"}, 9464: {"metrics"}}
    outward = {4222: {"nats"}, 53: {"kube-dns"}}
    if source in ("testnet", "mainnet"):
        outward[443] = {"addresses"}
    assert reaches(source, name, "egress", "to") == outward


@every_source
@pytest.mark.parametrize("name", ["router", "aggregator"])
def test_router_and_aggregator_reach_gateways_and_the_broker_only(source: str, name: str, tmp_path: Path) -> None:
    """They have no way out of the cluster, and no gateway's port is open to clients."""
    port = settings_of(source, name, tmp_path).grpc.port
    assert reaches(source, name, "ingress", "from") == {port: {"client", "operator"}, 9464: {"metrics"}}
    gateways = {settings_of(source, each, tmp_path).grpc.port: {each} for each in GATEWAYS}
    assert reaches(source, name, "egress", "to") == {4222: {"nats"}, 53: {"kube-dns"}, **gateways}


@every_source
def test_broker_is_reached_by_the_services_only(source: str) -> None:
    """Its monitoring port is the kubelet's alone."""
    assert reaches(source, "nats", "ingress", "from") == {4222: {"service,gateway"}, 6222: {"nats"}}
    assert reaches(source, "nats", "egress", "to") == {6222: {"nats"}, 53: {"kube-dns"}}


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1", "fd00::1"]
)
def test_the_way_to_the_venues_leads_nowhere_inside(address: str) -> None:
    """Neither to other pods nor to a cloud's metadata."""
    (policy,) = component("venue-egress")
    (rule,) = policy["spec"]["egress"]
    target = ipaddress.ip_address(address)
    for block in (peer["ipBlock"] for peer in rule["to"]):
        inside = target in ipaddress.ip_network(block["cidr"])
        assert not inside or any(target in ipaddress.ip_network(each) for each in block["except"])


@every_source
def test_broker_keeps_three_copies_and_fits_its_volume(source: str, tmp_path: Path) -> None:
    """As many copies as servers; the store's bound is below the volume, or a full disk would stop the journal."""
    nats = workloads(source)["nats"].doc["spec"]
    assert nats["replicas"] == 3
    for name in SERVICES:
        assert settings_of(source, name, tmp_path).nats.replicas == nats["replicas"]
        assert len(settings_of(source, name, tmp_path).nats.urls) == nats["replicas"]
    conf = (K8S / "base/nats.conf").read_text()
    bound = re.search(r"max_file_store: (\d+)GB", conf)
    (claim,) = nats["volumeClaimTemplates"]
    volume = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
    assert bound is not None
    assert int(bound[1]) < volume
    # The service's certificates are the broker's users, no more and no fewer.
    users = set(re.findall(r'user: "spiffe://venuemesh/(\w+)"', conf))
    assert users == {name.replace("-", "_") for name in SERVICES}


def test_alerts_use_metrics_that_exist() -> None:
    """An alert on a misspelt name never fires."""
    (rule,) = of_kind(component("monitoring"), "PrometheusRule").values()
    known = exposed_names()
    assert "venuemesh_grpc_call_seconds_bucket" in known
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    assert len({each["alert"] for each in alerts}) == len(alerts) > 10
    for alert in alerts:
        used = set(re.findall(r"venuemesh_\w+", alert["expr"]))
        assert used <= known, f"{alert['alert']}: {used - known}"
        jobs = re.findall(r'job=~"([^"]+)"', alert["expr"])
        assert used or jobs
        for pattern in jobs:
            assert any(re.fullmatch(pattern, name.replace("-", "_")) for name in SERVICES), alert["alert"]
            assert not any(re.fullmatch(pattern, name) for name in GATEWAYS), "jobs have underscores"
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["annotations"]["summary"]


def test_services_are_scraped_and_the_broker_is_not() -> None:
    """The monitor finds exactly the Services that have a port of that name."""
    (monitor,) = of_kind(component("monitoring"), "ServiceMonitor").values()
    wanted = monitor["spec"]["selector"]["matchLabels"]
    services = of_kind(documents("base"), "Service")
    assert {name for name, each in services.items() if wanted.items() <= each["metadata"]["labels"].items()} == set(
        SERVICES
    )
    ports = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
    for name in SERVICES:
        assert ports <= {port["name"] for port in services[name]["spec"]["ports"]}


def test_broker_lets_services_write_to_every_stream_of_the_mesh() -> None:
    """A new stream whose subjects the broker's permissions lack would be found by the first order otherwise."""
    conf = (K8S / "base/nats.conf").read_text()
    (allowed,) = re.findall(r"publish: \{\s+allow: \[(.*?)\]", conf, re.DOTALL)
    patterns = [pattern.removesuffix(">") for pattern in re.findall(r'"([^"]+)"', allowed)]
    subjects = [subject for spec in stream_specs(0) for subject in spec.subjects]
    assert "$JS.API." in patterns
    assert len(subjects) > 10
    for subject in subjects:
        assert any(subject.startswith(pattern) for pattern in patterns), f"{subject} is not allowed"
