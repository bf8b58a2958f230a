"""The manifests as the tests read them: the base as it is written, the overlays as kustomize renders them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from aggregator.settings import AggregatorSettings
from gateway_hyperliquid.settings import GatewaySettings as HyperliquidSettings
from gateway_lighter.settings import GatewaySettings as LighterSettings
from gateway_tradexyz.settings import GatewaySettings as TradexyzSettings
from router.settings import RouterSettings
from venuemesh.settings import ServiceSettings

ROOT = Path(__file__).parents[4]
K8S = ROOT / "deploy/k8s"
OVERLAYS = ("local", "testnet", "mainnet")
SOURCES = ("base", *OVERLAYS)
TOOLS = ROOT / ".run/tools"

SERVICES: Mapping[str, type[ServiceSettings]] = {
    "gateway-hyperliquid": HyperliquidSettings,
    "gateway-tradexyz": TradexyzSettings,
    "gateway-lighter": LighterSettings,
    "router": RouterSettings,
    "aggregator": AggregatorSettings,
}
GATEWAYS = [name for name in SERVICES if name.startswith("gateway-")]

Doc = dict[str, Any]


def kustomize() -> str | None:
    """The tool that $KUSTOMIZE names, that is on PATH, or that `make k8s-check` installed."""
    return os.environ.get("KUSTOMIZE") or shutil.which("kustomize", path=f"{os.environ.get('PATH', '')}:{TOOLS}")


@cache
def documents(source: str) -> tuple[Doc, ...]:
    """All objects of a source; skips the test where only kustomize can tell and there is none."""
    if source == "base":
        return tuple(_raw(K8S / "base"))
    tool = kustomize()
    if tool is None:
        pytest.skip("no kustomize: `make k8s-check` installs it where there is Go")
    done = subprocess.run([tool, "build", str(K8S / "overlays" / source)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return tuple(yaml.safe_load_all(done.stdout))


def component(name: str) -> list[Doc]:
    """Objects of a component, as they are written."""
    return list(_raw(K8S / "components" / name))


def _raw(folder: Path) -> Iterator[Doc]:
    for file in sorted(folder.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            yield from yaml.safe_load_all(file.read_text())


def of_kind(docs: tuple[Doc, ...] | list[Doc], kind: str) -> dict[str, Doc]:
    """Objects of a kind by name."""
    return {doc["metadata"]["name"]: doc for doc in docs if doc["kind"] == kind}


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment or StatefulSet."""

    doc: Doc

    @property
    def name(self) -> str:
        return str(self.doc["metadata"]["name"])

    @property
    def pod(self) -> Doc:
        return dict(self.doc["spec"]["template"]["spec"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.doc["spec"]["template"]["metadata"]["labels"])

    @property
    def containers(self) -> list[Doc]:
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]

    @property
    def main(self) -> Doc:
        return next(each for each in self.pod["containers"] if each["name"] == self.name)

    def volumes(self) -> dict[str, Doc]:
        return {each["name"]: each for each in self.pod.get("volumes", ())}

    def mounted(self, path: str) -> tuple[Doc, str] | None:
        """The volume that holds `path` in the main container, and the path inside of it."""
        for mount in self.main["volumeMounts"]:
            if path.startswith(mount["mountPath"] + "/"):
                return self.volumes()[mount["name"]], path.removeprefix(mount["mountPath"] + "/")
        return None


def workloads(source: str) -> dict[str, Workload]:
    """All of a source by name."""
    docs = documents(source)
    return {name: Workload(doc) for kind in ("Deployment", "StatefulSet") for name, doc in of_kind(docs, kind).items()}


def environ(workload: Workload, references: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of the main container; `references` stands in for what ConfigMaps outside the source hold."""
    found = {}
    for entry in workload.main.get("env", ()):
        if "value" in entry:
            found[entry["name"]] = entry["value"]
        elif (reference := entry["valueFrom"].get("configMapKeyRef")) and references:
            key = f"{reference['name']}/{reference['key']}"
            if key in references:
                found[entry["name"]] = references[key]
    return found


OPT_IN = {"mainnet-opt-in/allow-mainnet": "true"}


def settings_of(source: str, name: str, folder: Path) -> ServiceSettings:
    """The settings that a service would start with; its accounts' file is read from the source where it has one."""
    workload = workloads(source)[name]
    keys = environ(workload, OPT_IN)
    prefix = SERVICES[name].env_prefix
    config = keys.pop(f"{prefix}CONFIG", None)
    file = None
    if config is not None and source in ("testnet", "mainnet"):
        found = workload.mounted(config)
        assert found is not None
        volume, key = found
        file = folder / f"{name}.toml"
        file.write_text(of_kind(documents(source), "ConfigMap")[volume["configMap"]["name"]]["data"][key])
    return SERVICES[name].load(keys, file)
