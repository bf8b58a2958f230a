"""Every object has the form that Kubernetes, cert-manager and the Prometheus operator take, and no field more."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.unit.deploy.k8s.manifests import K8S, SOURCES, component, documents, kustomize

SCHEMAS = Path(__file__).parent / "schemas"
# The oldest has `preStop: sleep` and containers that run beside others without a feature gate.
VERSIONS = ("1.30", "1.36")
BUILT_IN = ("v1", "apps/", "autoscaling/", "policy/", "networking.k8s.io/")


@cache
def validator(kind: str, version: str) -> jsonschema.Draft202012Validator:
    """Of a custom resource."""
    schema = json.loads((SCHEMAS / f"{kind.lower()}_{version}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check(doc: dict[str, Any], version: str) -> None:
    """Raises what is wrong with an object."""
    if doc["apiVersion"].startswith(BUILT_IN):
        kubernetes_validate.validate(doc, version, strict=True)
    else:
        validator(doc["kind"], doc["apiVersion"].partition("/")[2]).validate(doc)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("source", SOURCES)
def test_objects_are_valid_and_hold_no_unknown_field(source: str, version: str) -> None:
    """Strict, for every version of the API that is promised."""
    docs = documents(source)
    assert len(docs) > 20
    for doc in docs:
        check(doc, version)


@pytest.mark.parametrize("name", ["certificates", "monitoring", "venue-egress"])
def test_components_are_valid_without_kustomize_too(name: str) -> None:
    """What a machine with nothing but Python can still tell."""
    docs = component(name)
    assert docs
    for doc in docs:
        check(doc, VERSIONS[-1])


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Service", ("spec", "clusterIp"), "None"),
        ("StatefulSet", ("spec", "template", "spec", "enableServiceLink"), False),
        ("NetworkPolicy", ("spec", "egres"), []),
    ],
)
def test_a_misspelt_field_is_found(kind: str, path: tuple[str, ...], value: object) -> None:
    """The check is strict, or it would be no check: Kubernetes ignores what it does not know."""
    doc = json.loads(json.dumps(next(each for each in documents("base") if each["kind"] == kind)))
    group = doc
    for part in path[:-1]:
        group = group[part]
    group[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check(doc, VERSIONS[-1])


@pytest.mark.parametrize(("name", "kind"), [("certificates", "Certificate"), ("monitoring", "ServiceMonitor")])
def test_a_misspelt_field_of_a_custom_resource_is_found(name: str, kind: str) -> None:
    """Their schemas are closed as well."""
    doc = next(each for each in component(name) if each["kind"] == kind)
    doc["spec"]["misspelt"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        check(doc, VERSIONS[-1])


def test_every_file_is_a_part_of_something() -> None:
    """A file that no kustomization names is applied by nobody."""
    for folder in (K8S / "base", *(K8S / "components").iterdir(), *(K8S / "overlays").iterdir()):
        kustomization = (folder / "kustomization.yaml").read_text()
        assert yaml.safe_load(kustomization)
        for file in folder.iterdir():
            assert file.name == "kustomization.yaml" or file.name in kustomization, f"{file} is named nowhere"


def test_rendering_says_whether_it_was_checked() -> None:
    """A run without kustomize shows as a skip here, with the way to have it."""
    if kustomize() is None:
        pytest.skip("overlays were not rendered: no kustomize; `make k8s-check` installs it where there is Go")
