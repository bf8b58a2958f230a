"""docs/kubernetes.md names what is there: paths, secrets and their files, times, numbers."""

from __future__ import annotations

import re

import yaml

from tests.unit.deploy.k8s.manifests import GATEWAYS, OPT_IN, OVERLAYS, ROOT, workloads

PAGE = (ROOT / "docs/kubernetes.md").read_text()


def test_paths_of_the_page_exist() -> None:
    """Overlays, components, files."""
    paths = set(re.findall(r"\bdeploy/[\w/.-]*\w", PAGE))
    assert {f"deploy/k8s/overlays/{each}" for each in ("local", "testnet")} <= paths
    assert all((ROOT / path).exists() for path in paths)
    for overlay in OVERLAYS:
        kustomization = yaml.safe_load((ROOT / f"deploy/k8s/overlays/{overlay}/kustomization.yaml").read_text())
        assert f"`{kustomization['namespace']}`" in PAGE


def test_secrets_that_the_page_makes_are_those_that_are_mounted() -> None:
    """With the files that the accounts' examples name; certificates are cert-manager's."""
    made = dict(re.findall(r"create secret generic ([\w-]+) --from-file=([\w.-]+)=", PAGE))
    mounted = {
        volume["secret"]["secretName"]
        for workload in workloads("base").values()
        for volume in workload.volumes().values()
        if "secret" in volume
    }
    assert set(made) == {name for name in mounted if not name.endswith("-tls")}
    for gateway in GATEWAYS:
        example = (ROOT / f"deploy/k8s/overlays/testnet/{gateway}.toml").read_text()
        assert f"/etc/venuemesh/venue-keys/{made[f'{gateway}-keys']}" in example


def test_opt_in_of_the_page_is_the_one_that_mainnet_waits_for() -> None:
    """Name, key and value."""
    name, key, value = re.findall(r"create configmap ([\w-]+) --from-literal=([\w-]+)=(\w+)", PAGE)[0]
    assert {f"{name}/{key}": value} == OPT_IN


def test_times_of_the_page_are_those_of_the_manifests() -> None:
    """Graces of pods."""
    found = workloads("base")
    for name, sentence in (("router", "The pod's grace, {} s"), ("gateway-lighter", "a gateway's {} s")):
        assert sentence.format(found[name].pod["terminationGracePeriodSeconds"]) in PAGE
