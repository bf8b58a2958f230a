"""Every line of docs/cookbook.md, run as it stands against a real mesh; only addresses are put in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli.runs import ROOT, LocalMesh
from venuemesh.v1 import (
    account_service_pb2,
    instrument_service_pb2,
    market_data_service_pb2,
    operations_service_pb2,
    order_service_pb2,
    portfolio_service_pb2,
    reconciliation_service_pb2,
    risk_service_pb2,
    routing_service_pb2,
    venue_service_pb2,
)

pytestmark = pytest.mark.xdist_group("cli")

PAGE = (ROOT / "docs/cookbook.md").read_text()
BUF = ".venv/bin/buf"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
LINE_TIMEOUT_S = 60.0
BUILD_TIMEOUT_S = 120.0
MOST_TRIES = 5
LATE = re.compile("DeadlineExceeded|deadline_exceeded")
"""Nothing of what the page says: the machine was away for longer than a call may take. Every line may be repeated."""
PORTS = {"50050": "router", "50060": "aggregator", "50051": "gateway_hyperliquid"}
SERVICES = (
    account_service_pb2,
    instrument_service_pb2,
    market_data_service_pb2,
    operations_service_pb2,
    order_service_pb2,
    portfolio_service_pb2,
    reconciliation_service_pb2,
    risk_service_pb2,
    routing_service_pb2,
    venue_service_pb2,
)


def sections() -> dict[str, list[tuple[str, str]]]:
    """Lines by heading, each with the reason it is refused with; empty where it is not."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in PAGE.split("\n## ")[1:]:
        title, lines, refused = part.splitlines()[0], [], ""
        for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL):
            for line in block.splitlines():
                said = re.match(r"# refused with (\w+)", line)
                if said is None:
                    lines.append((line, refused))
                refused = said[1] if said else ""
        found[title] = lines
    return found


LINES = sections()


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with buf, and with grpcurl where it can be had."""
    folder = tmp_path_factory.mktemp("tools")
    (folder / "buf").symlink_to(Path(sys.executable).parent / "buf")
    found = shutil.which("grpcurl")
    if found is not None:
        (folder / "grpcurl").symlink_to(found)
    elif shutil.which("go") is not None:
        # A matter of a second with Go's module cache; without it and without a network the lines are skipped.
        environ = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"}
        subprocess.run(
            ("go", "install", GRPCURL), env=environ, capture_output=True, check=False, timeout=BUILD_TIMEOUT_S
        )
    return folder


def run(line: str, refused: str, tools: Path, mesh: LocalMesh) -> None:
    for port, service in PORTS.items():
        line = line.replace(f"127.0.0.1:{port}", mesh.addresses[service])
    environ = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    for _ in range(MOST_TRIES):
        done = subprocess.run(
            ("/bin/sh", "-c", line.replace(BUF, "buf")),
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=LINE_TIMEOUT_S,
        )
        if LATE.search(done.stderr) is None:
            break
    if refused:
        assert done.returncode != 0 and refused in done.stderr, f"{line}\n{done.stdout}{done.stderr}"
    else:
        assert done.returncode == 0 and done.stdout.strip() and not done.stderr, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("title", LINES)
def test_lines_of_buf_do_what_the_page_says(title: str, tools: Path, local_mesh: LocalMesh) -> None:
    """buf comes with the development tools, so these run everywhere."""
    lines = [one for one in LINES[title] if one[0].startswith(f"{BUF} ")]
    assert lines
    for line, refused in lines:
        run(line, refused, tools, local_mesh)


@pytest.mark.parametrize("title", LINES)
def test_lines_of_grpcurl_do_what_the_page_says(title: str, tools: Path, local_mesh: LocalMesh) -> None:
    """grpcurl is a program of its own: taken from the PATH, else built by Go."""
    if not (tools / "grpcurl").exists():
        pytest.skip("grpcurl is neither on the PATH nor could Go build it")
    lines = [one for one in LINES[title] if "grpcurl -plaintext " in one[0]]
    assert lines
    for line, refused in lines:
        run(line, refused, tools, local_mesh)


def test_page_has_lines_of_both_tools_for_every_service_and_nothing_else() -> None:
    """A service that is added needs a section."""
    assert {file.DESCRIPTOR.services_by_name.keys()[0] for file in SERVICES} == set(LINES) - {"What there is"}
    assert len(SERVICES) == len(list((ROOT / "protos/venuemesh/v1").glob("*_service.proto")))
    for title, lines in LINES.items():
        for line, _ in lines:
            # A stream of requests comes from a pipe: what is said in parentheses goes into the tool.
            told = line.rpartition(") | ")[2] if line.startswith("(echo ") else line
            assert told.startswith(("grpcurl -plaintext ", f"{BUF} curl --http2-prior-knowledge --protocol grpc ")), (
                line
            )
            assert title == "What there is" or f"venuemesh.v1.{title}/" in line
