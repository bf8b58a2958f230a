"""Stubs generated from an earlier contract work against today's gateway and router.

`baseline.binpb` is that contract as a descriptor image, so the test needs no git history: the first commit that had all
services. At a release, make it anew from the tag before (`buf build protos --exclude-source-info -o baseline.binpb`).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from tests.broker import Broker
from tests.fakes_venue import VENUE
from tests.integration.gateway.served_gateway import Gateway, serving_gateway
from tests.integration.router.support import running
from venuemesh.v1 import order_pb2

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.binpb"
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def old_stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stubs of the baseline."""
    folder = tmp_path_factory.mktemp("stubs")
    files = [file.name for file in baseline().file if file.package == "venuemesh.v1"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={BASELINE}"]
    command += [f"--python_out={folder}", f"--grpc_python_out={folder}", *files]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    return folder


def baseline() -> descriptor_pb2.FileDescriptorSet:
    return descriptor_pb2.FileDescriptorSet.FromString(BASELINE.read_bytes())


async def run_old_client(stubs: Path, address: str, key: str) -> dict[str, Any]:
    """What the old client tells; fails with its words when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(HERE / "old_client.py"), str(stubs), address, VENUE, key),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Not the tree under test: it holds a package of the same name.
        cwd=stubs,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    told: dict[str, Any] = json.loads(out)
    return told


def require_the_whole_life(told: dict[str, Any]) -> None:
    """It took an order through its life, and met fields that it does not know."""
    unknown = told.pop("fields it does not know")
    assert order_pb2.Order.CONTENT_FINGERPRINT_FIELD_NUMBER in unknown
    assert told == {
        "submitted": "SUBMIT_OUTCOME_ACKNOWLEDGED",
        "seen": ["EXECUTION_TYPE_NEW", "EXECUTION_TYPE_CANCELED"],
        "read": "ORDER_STATUS_NEW",
        "canceled": "CANCEL_OUTCOME_CANCELED",
    }


@dataclass
class Behind:
    """A served gateway as the router's test support wants it."""

    gateway: Gateway
    venue: str = VENUE
    _server: Any = True

    @property
    def address(self) -> str:
        return self.gateway.server.address


async def test_old_client_submits_follows_and_cancels_at_a_gateway(broker: Broker, old_stubs: Path) -> None:
    """Today's gateway and its newer fields do not disturb it."""
    async with serving_gateway(broker) as gateway:
        require_the_whole_life(await run_old_client(old_stubs, gateway.server.address, "old-gateway"))


async def test_old_client_submits_follows_and_cancels_through_the_router(broker: Broker, old_stubs: Path) -> None:
    """The same over today's router."""
    async with serving_gateway(broker) as gateway:
        await gateway.server.set_serving(True)
        await gateway.server.health.set(f"venue/{VENUE}", True)
        behind: Any = Behind(gateway)
        async with running(broker.url, behind) as (router, _):
            require_the_whole_life(await run_old_client(old_stubs, router.server.address, "old-router"))
