"""What README, runbook and Makefile promise exists: targets, ports, commands, links, examples."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory

import venuemesh.v1
from deploy.local.mesh import Ports, make_accounts, mesh_services
from deploy.local.state import StateFolder
from deploy.local.summary import example_calls
from venuemesh.errors import Reason

for _module in pkgutil.iter_modules(venuemesh.v1.__path__):
    # The examples may call any method there is.
    importlib.import_module(f"venuemesh.v1.{_module.name}")

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = ("README.md", "CHANGELOG.md", "docs/architecture.md", "docs/runbook.md")
MAKEFILE = (ROOT / "Makefile").read_text()
GRPCURL = re.compile(
    r"^\s*grpcurl -plaintext (?:-d '(?P<data>[^']*)' )?(?P<address>\S+) (?P<method>\S+)$", re.MULTILINE
)


def documented_targets() -> set[str]:
    """Targets named as `make target` in code of any document or in the CI script, and all that `make help` lists."""
    named = set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        code = re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
        named.update(target for part in code for target in re.findall(r"\bmake ([a-z][a-z0-9-]*)", part))
    named.update(re.findall(r"^make ([a-z0-9-]+)", (ROOT / ".ci/run").read_text(), re.MULTILINE))
    return named


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", sorted(documented_targets()))
def test_make_target_when_documented_exists(target: str) -> None:
    """`make -n` finds the target and everything it depends on."""
    dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_link_when_relative_leads_somewhere(document: str) -> None:
    """A link within the repository points at a file."""
    path = ROOT / document
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{document}: {link}"


def test_ports_in_readme_are_those_the_mesh_binds(tmp_path: Path) -> None:
    """The table of services is not allowed to drift."""
    table = mesh_services(
        ports=Ports(),
        nats_server="nats-server",
        jetstream=tmp_path,
        accounts=make_accounts(StateFolder(tmp_path)),
    )
    rows = {row.split("|")[1].strip(" `"): row for row in (ROOT / "README.md").read_text().splitlines() if "|" in row}
    for service in table:
        row = rows["nats-server" if service.name == "nats" else service.name]
        assert {f"127.0.0.1:{port}" for port in service.ports.values()} == set(re.findall(r"127\.0\.0\.1:\d+", row))


def examples() -> list[str]:
    """Every grpcurl command of the documents and of the screen after `make run`."""
    texts = [(ROOT / document).read_text() for document in DOCUMENTS]
    names = {"venue": "hyperliquid", "account_id": "main", "symbol": "BTC/USDC:USDC", "run_id": "walk-1"}
    texts += example_calls(router="127.0.0.1:50050", aggregator="127.0.0.1:50060", **names)
    return [match[0].strip() for text in texts for match in GRPCURL.finditer(text)]


@pytest.mark.parametrize("command", examples())
def test_grpcurl_example_names_a_method_and_fits_its_request(command: str) -> None:
    """The method exists in the contract, and its request takes every field of the example."""
    match = GRPCURL.fullmatch(command)
    assert match is not None
    if match["method"].startswith("venuemesh."):
        service, _, method = match["method"].partition("/")
        found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
        request = message_factory.GetMessageClass(found.input_type)()
        json_format.ParseDict(json.loads(match["data"] or "{}"), request)
    else:
        assert match["method"] in {"list", "grpc.health.v1.Health/Check"}


def test_examples_are_found() -> None:
    """The pattern above still fits how examples are written."""
    assert len(examples()) >= 10


def test_python_example_of_readme_compiles() -> None:
    """Its run against a server is an integration test."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    compile(blocks[0], "README.md", "exec")


def test_ci_script_runs_the_tests_last() -> None:
    """Its output must end with pytest's summary."""
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("make test")


def test_reasons_of_the_runbook_are_those_of_the_contract() -> None:
    """An operator searches for the word that the caller saw."""
    section = (ROOT / "docs/runbook.md").read_text().partition("## Reasons callers see")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if re.match(r"\| [A-Z_]{3}", line)]
    named = {word for cell in cells for word in re.findall(r"[A-Z_]{3,}", cell)}
    assert len(named) > 15
    assert named <= {reason.value for reason in Reason}
