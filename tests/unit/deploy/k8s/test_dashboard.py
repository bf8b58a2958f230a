"""The dashboard's ConfigMap, which lives where Grafana does and so is applied by itself."""

from __future__ import annotations

import json
import subprocess

import kubernetes_validate
import pytest
import yaml

from tests.unit.deploy.k8s.manifests import ROOT, kustomize

FOLDER = ROOT / "deploy/observability"


def test_dashboard_is_in_a_config_map_that_grafana_finds() -> None:
    """Whole, under the label that the side-car looks for, and small enough for an object."""
    file = FOLDER / "grafana-dashboard.json"
    tool = kustomize()
    if not file.exists():
        pytest.skip("there is no deploy/observability/grafana-dashboard.json")
    if tool is None:
        pytest.skip("no kustomize: `make k8s-check` installs it where there is Go")
    done = subprocess.run([tool, "build", str(FOLDER)], capture_output=True, text=True, timeout=60, check=True)
    (doc,) = yaml.safe_load_all(done.stdout)
    kubernetes_validate.validate(doc, "1.36", strict=True)
    assert doc["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert doc["metadata"]["name"] == "venuemesh-dashboard"
    (text,) = doc["data"].values()
    assert json.loads(text) == json.loads(file.read_text())
    assert len(text) < 1_000_000
