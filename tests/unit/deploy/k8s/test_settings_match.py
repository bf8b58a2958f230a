"""What the manifests say is what the code reads: keys, ports, probes, times, files, names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from aggregator.service import PORTFOLIO_SERVICE
from aggregator.settings import AggregatorSettings
from deploy.k8s import trial
from router.settings import RouterSettings
from tests.unit.deploy.k8s.manifests import (
    GATEWAYS,
    OPT_IN,
    SERVICES,
    SOURCES,
    component,
    documents,
    environ,
    of_kind,
    settings_of,
    workloads,
)
from venuemesh.probing import LIVE
from venuemesh.security.authority import TRUST_DOMAIN
from venuemesh.serving import EVICTION_S, FLUSH_TIMEOUT_S
from venuemesh.settings import SettingsError, is_loopback
from venuemesh.transport.environment import Environment

CLOSING_S = 5.0
"""For the broker's and the venue's connections, after everything that has a bound of its own."""
FLUSHES = 2
"""Of a gateway: events and audit."""

every_service = pytest.mark.parametrize("name", SERVICES)
every_source = pytest.mark.parametrize("source", SOURCES)


@every_source
@every_service
def test_settings_of_the_manifest_start_the_service(source: str, name: str, tmp_path: Path) -> None:
    """Every key exists and holds what its rule takes; each service binds wide, with TLS, a token and mutual TLS."""
    settings = settings_of(source, name, tmp_path)
    assert not is_loopback(settings.grpc.host)
    assert settings.grpc.tls_files is not None
    assert settings.grpc.token_keys_file is not None
    assert settings.metrics.tls_files is not None
    assert settings.nats.cert_file is not None
    assert all(url.startswith("tls://") for url in settings.nats.urls)


def test_a_key_that_no_setting_has_is_found() -> None:
    """The check of the keys is the service's own, and it is strict."""
    keys = environ(workloads("base")["router"]) | {"ROUTER_GRPC__PROT": "1"}
    with pytest.raises(SettingsError, match="ROUTER_GRPC__PROT: is no setting"):
        RouterSettings.load(keys)


@every_source
def test_every_variable_belongs_to_the_service(source: str) -> None:
    """A key of another prefix would be ignored in silence."""
    for name, settings in SERVICES.items():
        keys = {entry["name"] for entry in workloads(source)[name].main["env"]}
        assert all(key.startswith(settings.env_prefix) for key in keys), f"{name}: {keys}"


@pytest.mark.parametrize("name", GATEWAYS)
def test_environment_is_what_the_overlay_says_and_mainnet_needs_the_opt_in(name: str, tmp_path: Path) -> None:
    """Real money takes an object that no overlay holds: without it no pod starts, and no gateway would."""
    for source in ("local", "testnet", "mainnet"):
        settings: Any = settings_of(source, name, tmp_path)
        wanted = Environment.SIMULATOR if source == "local" else Environment(source)
        assert settings.environment is wanted
        assert settings.allow_mainnet is (source == "mainnet")
    assert not {"mainnet-opt-in"} & set(of_kind(documents("mainnet"), "ConfigMap"))
    prefix = SERVICES[name].env_prefix
    without = environ(workloads("mainnet")[name])
    without.pop(f"{prefix}CONFIG")
    assert f"{prefix}ALLOW_MAINNET" not in without
    with pytest.raises(SettingsError, match="opt-in"):
        SERVICES[name].load(without)
    (entry,) = [e for e in workloads("mainnet")[name].main["env"] if e["name"] == f"{prefix}ALLOW_MAINNET"]
    assert not entry["valueFrom"]["configMapKeyRef"].get("optional", False)
    assert set(OPT_IN) == {"{name}/{key}".format(**entry["valueFrom"]["configMapKeyRef"])}


@every_source
@every_service
def test_ports_are_those_that_the_service_binds(source: str, name: str, tmp_path: Path) -> None:
    """Of containers, probes and Services."""
    settings, workload = settings_of(source, name, tmp_path), workloads(source)[name]
    ports = {port["name"]: port["containerPort"] for port in workload.main["ports"]}
    assert ports == {
        "grpc": settings.grpc.port,
        "metrics": settings.metrics.port,
        "probe": settings.grpc.probe_port,
    }
    service = of_kind(documents(source), "Service")[name]["spec"]
    assert {port["name"]: port["port"] for port in service["ports"]} == {
        "grpc": settings.grpc.port,
        "metrics": settings.metrics.port,
    }
    assert service["clusterIP"] == "None", "clients balance over addresses"
    assert service["selector"].items() <= workload.labels.items()


@every_source
@every_service
def test_probes_ask_for_names_that_the_service_serves(source: str, name: str, tmp_path: Path) -> None:
    """Native gRPC probes at the plain port; restarts go by `live`, which no venue and no broker can turn."""
    settings: Any = settings_of(source, name, tmp_path)
    main = workloads(source)[name].main
    probes = {kind: main[f"{kind}Probe"]["grpc"] for kind in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in probes.values()} == {settings.grpc.probe_port}
    ready = {"router": LIVE, "aggregator": PORTFOLIO_SERVICE.full_name}
    wanted = ready.get(name) or f"venue/{settings.venue}"
    assert {kind: probe["service"] for kind, probe in probes.items()} == {
        "startup": LIVE,
        "readiness": wanted,
        "liveness": LIVE,
    }


@every_source
@every_service
def test_grace_covers_the_whole_drain(source: str, name: str, tmp_path: Path) -> None:
    """A process that is killed while it drains leaves orders in doubt for nothing."""
    grpc = settings_of(source, name, tmp_path).grpc
    workload = workloads(source)[name]
    pre_stop = workload.main.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    flushes = FLUSHES if name in GATEWAYS else 0
    drain = grpc.drain_pause_s + 2 * grpc.drain_grace_s + EVICTION_S + flushes * FLUSH_TIMEOUT_S
    assert workload.pod["terminationGracePeriodSeconds"] >= pre_stop + drain + CLOSING_S


def paths(section: BaseModel) -> Iterator[Path]:
    """Every file that settings name."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from paths(value)
        elif isinstance(value, tuple):
            for each in value:
                if isinstance(each, BaseModel):
                    yield from paths(each)
        elif isinstance(value, Path):
            yield value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects of the trial cluster by kind and name."""
    objects = trial.objects("venuemesh-local", tmp_path_factory.mktemp("trial"), datetime.now(UTC))
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


@every_source
@every_service
def test_files_of_the_settings_are_mounted_and_exist_in_what_is_mounted(
    source: str, name: str, tmp_path: Path, made: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """Each path lies in a read-only mount of a Secret, under a key that the Secret has."""
    workload = workloads(source)[name]
    found = list(paths(settings_of(source, name, tmp_path)))
    assert len(found) > 8
    for path in found:
        mounted = workload.mounted(str(path))
        assert mounted is not None, f"{path} is not mounted"
        volume, key = mounted
        assert key in made["Secret", volume["secret"]["secretName"]]["data"], f"{path}: no such key"
        assert volume["secret"]["defaultMode"] == 0o440
    assert all(mount["readOnly"] for mount in workload.main["volumeMounts"])


def test_trial_objects_are_all_that_the_local_overlay_misses(made: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Everything a pod refers to is rendered or made; a gateway starts with the accounts that are made."""
    docs = documents("local")
    there = {(doc["kind"], doc["metadata"]["name"]) for doc in docs} | set(made)
    for workload in workloads("local").values():
        for volume in workload.volumes().values():
            if "secret" in volume:
                assert ("Secret", volume["secret"]["secretName"]) in there
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
        for container in workload.containers:
            for reference in container.get("envFrom", ()):
                assert ("ConfigMap", reference["configMapRef"]["name"]) in there
    assert {each["metadata"]["namespace"] for each in made.values()} == {
        doc["metadata"].get("namespace") for doc in docs if doc["kind"] != "Namespace"
    }


@pytest.mark.parametrize("name", GATEWAYS)
def test_trial_accounts_are_settings_of_their_gateway(
    name: str, tmp_path: Path, made: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """The file is read as TOML by the gateway's own settings, and the key it names is in the mounted Secret."""
    workload = workloads("base")[name]
    file = tmp_path / "accounts.toml"
    file.write_text(made["ConfigMap", f"{name}-accounts"]["data"]["accounts.toml"])
    keys = environ(workload)
    keys.pop(f"{SERVICES[name].env_prefix}CONFIG")
    settings: Any = SERVICES[name].load(keys, file)
    (account,) = settings.accounts
    for path in paths(account):
        mounted = workload.mounted(str(path))
        assert mounted is not None
        assert mounted[1] in made["Secret", mounted[0]["secret"]["secretName"]]["data"]


@every_source
def test_addresses_of_gateways_are_services_and_names_in_their_certificates(source: str, tmp_path: Path) -> None:
    """A name that the certificate lacks would be a handshake that fails."""
    docs = documents(source)
    certificates = of_kind(component("certificates"), "Certificate")
    router, aggregator = (settings_of(source, name, tmp_path) for name in ("router", "aggregator"))
    assert isinstance(router, RouterSettings)
    assert isinstance(aggregator, AggregatorSettings)
    assert router.gateways == aggregator.venue_addresses
    assert set(router.gateways) == {settings_of(source, name, tmp_path).venue for name in GATEWAYS}  # type: ignore[attr-defined]
    for address in router.gateways.values():
        host, _, port = address.partition(":")
        assert host in certificates[host]["spec"]["dnsNames"]
        assert int(port) in {each["port"] for each in of_kind(docs, "Service")[host]["spec"]["ports"]}
        assert of_kind(docs, "Service")[host]["spec"]["publishNotReadyAddresses"], "cancels get through when unready"
    for url in router.nats.urls:
        host = url.removeprefix("tls://").partition(":")[0]
        assert host in certificates["nats"]["spec"]["dnsNames"]


def test_certificates_name_the_services_as_the_mesh_knows_them() -> None:
    """By URI, in the Secret that is mounted, under the same names that the trial's certificates have."""
    certificates = of_kind(component("certificates"), "Certificate")
    monitor = of_kind(component("monitoring"), "ServiceMonitor")["venuemesh"]["spec"]
    (endpoint,) = monitor["endpoints"]
    for service in (*trial.SERVICES, "nats", *trial.CLIENTS):
        name = trial.kubernetes_name(service)
        spec = certificates.pop(name)["spec"]
        assert spec["uris"] == [f"{TRUST_DOMAIN}{service}"]
        assert spec["secretName"] == f"{name}-tls"
        short = [host for host in trial.hosts(service, "x") if ".svc" not in host]
        assert spec.get("dnsNames", []) == short
        wanted = {"client auth"} if service in trial.CLIENTS else {"client auth", "server auth"}
        assert set(spec["usages"]) == wanted
        if service in trial.SERVICES:
            assert endpoint["tlsConfig"]["serverName"] in spec["dnsNames"]
    assert set(certificates) == {"mesh-authority"}


@pytest.mark.parametrize("source", ["testnet", "mainnet"])
def test_clients_elsewhere_reach_router_and_aggregator_by_a_name_of_their_certificates(source: str) -> None:
    """The full name holds the namespace, so each overlay adds its own."""
    docs = documents(source)
    for name in ("router", "aggregator"):
        wanted = f"{name}.{of_kind(docs, 'Service')[name]['metadata']['namespace']}.svc"
        assert wanted in of_kind(docs, "Certificate")[name]["spec"]["dnsNames"]


@pytest.mark.parametrize("name", GATEWAYS)
def test_gateway_knows_its_peers_by_names_that_certificates_have(name: str, tmp_path: Path) -> None:
    """The reader of metrics is none of them."""
    peers = settings_of("base", name, tmp_path).grpc.peer_scopes
    assert set(peers) == {"router", "aggregator", "operator"}
    uris = {
        uri for doc in of_kind(component("certificates"), "Certificate").values() for uri in doc["spec"].get("uris", ())
    }
    assert {f"{TRUST_DOMAIN}{peer}" for peer in peers} <= uris
