"""The gateway the suite runs against: each of the local mesh in turn, or the one that CONFORMANCE_TARGET names.

Everything runs in one event loop, which the gateway's processes and the channel to it live in for the whole suite.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from deploy.local.mesh import VENUES, VenueRow
from tests.contract.client import Client, find_client, refusal_to_run
from tests.contract.local_gateways import running_gateway

HERE = Path(__file__).parent
TARGET = os.environ.get("CONFORMANCE_TARGET", "")
ACCOUNT = os.environ.get("CONFORMANCE_ACCOUNT", "")
SYMBOL = os.environ.get("CONFORMANCE_SYMBOL", "")
# A 10 MB request must reach the gateway, to be refused there.
CHANNEL = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))

_rows: list[Any] = [
    pytest.param(row, id=row.venue, marks=pytest.mark.xdist_group(f"contract-{row.venue}")) for row in VENUES
]
GATEWAYS: list[Any] = [pytest.param(None, id="target", marks=pytest.mark.xdist_group("contract"))] if TARGET else _rows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of the suite runs in the session's event loop, and all of one gateway in one worker."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        if pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=GATEWAYS)
async def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of the gateway."""
    row: VenueRow | None = request.param
    if row is None:
        async with grpc.aio.insecure_channel(TARGET, options=CHANNEL) as channel:
            yield _allowed(await find_client(channel, account_id=ACCOUNT, symbol=SYMBOL))
        return
    async with (
        running_gateway(row, tmp_path_factory.mktemp(row.venue)) as address,
        grpc.aio.insecure_channel(address, options=CHANNEL) as channel,
    ):
        yield await find_client(channel, symbol=row.symbol, local=True)


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: Client) -> AsyncIterator[Client]:
    """The same, cleaned up behind the test."""
    yield gateway
    await gateway.tidy()


def _allowed(client: Client) -> Client:
    """Refuse a gateway where orders cost real money."""
    if why := refusal_to_run(client.venue, os.environ):
        pytest.exit(f"{TARGET}: {why}", returncode=2)
    return client
