"""What is written about metrics, alerts and reasons is what the code has, in both directions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.unit.deploy.families import HISTOGRAM_PARTS, ROOT, Family, documented, made
from venuemesh.gateway import alerts

PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "up"}
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
RULES = yaml.safe_load((ROOT / "deploy/observability/alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/observability/grafana-dashboard.json").read_text())


def test_metrics_of_the_code_are_those_of_the_document() -> None:
    """No metric without a line, no line without a metric; type and labels are right."""
    assert sorted(set(made())) == sorted(documented())
    assert len(documented()) > 40


def queries() -> list[str]:
    """Every expression of the dashboard and of the rules."""
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    variables = [re.findall(r"label_values\((.+), \w+\)", one["query"]) for one in DASHBOARD["templating"]["list"]]
    return shown + [name for found in variables for name in found] + [rule["expr"] for rule in RULES]


def selectable() -> dict[str, Family]:
    """Series names by what a query may write."""
    found: dict[str, Family] = {}
    for family in documented():
        if family.kind == "histogram":
            found |= {family.name + part: family for part in HISTOGRAM_PARTS}
        else:
            found[family.name] = family
    return found


@pytest.mark.parametrize("query", queries())
def test_query_selects_metrics_and_labels_that_exist(query: str) -> None:
    """A panel over a metric that nobody exposes is empty for ever, and nobody notices."""
    known = selectable()
    names = set(re.findall(r"\b(?:venuemesh|process)_\w+|\bup\b", query))
    assert names and names <= known.keys() | PROCESS
    allowed = {"le", "job", "instance"}.union(*(known[name].labels for name in names if name in known))
    grouped = [label for part in re.findall(r"by \(([^)]*)\)", query) for label in part.split(", ")]
    chosen = [label for part in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)(?:=~|!=|=)", part)]
    assert {*grouped, *chosen} <= allowed


def test_panels_lie_beside_each_other_and_have_titles() -> None:
    """No panel covers another, ids are unique, every target has a legend."""
    cells: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) > 20
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        taken = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert panel["title"]
        assert not taken & cells
        assert place["x"] + place["w"] <= 24
        assert all(target["legendFormat"] for target in panel.get("targets", ()))
        cells |= taken


def table_after(heading: str) -> set[str]:
    """The words in the first column of the tables in a section of the runbook."""
    section = RUNBOOK.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    return {word for cell in cells for word in re.findall(r"\w{4,}", cell)} - {"critical", "kind", "rule"}


def test_every_kind_of_alert_is_in_the_runbook_and_none_else() -> None:
    """Who gets an alert finds what it means."""
    kinds = {
        value
        for name, value in vars(alerts).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z_]+", value)
    }
    assert len(kinds) > 10
    assert table_after("Alerts, and what to do") == kinds


def test_every_rule_is_in_the_runbook_and_none_else() -> None:
    """Who is paged finds what to do."""
    assert table_after("Rules that page somebody") == {rule["alert"] for rule in RULES}
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in RULES)


def test_the_cluster_has_the_same_rules() -> None:
    """One list for both; what pages somebody does not depend on where the mesh runs."""
    rule = yaml.safe_load((ROOT / "deploy/k8s/components/monitoring/alerts.yaml").read_text())
    assert [group["rules"] for group in rule["spec"]["groups"]] == [RULES]


def test_prometheus_scrapes_the_ports_of_the_local_mesh() -> None:
    """The configuration that comes along fits `make run`."""
    config = yaml.safe_load((ROOT / "deploy/observability/prometheus.yaml").read_text())
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    readme = (ROOT / "README.md").read_text()
    for job, (target,) in jobs.items():
        assert re.search(rf"^\| `{job}` \|.*\| {re.escape(target)} \|$", readme, re.MULTILINE)
    assert config["rule_files"] == ["alerts.yaml"]
