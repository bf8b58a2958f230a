"""nats-py without aiohttp, and with it where a broker is behind a WebSocket."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker import nats_server_path
from venuemesh.bus import Bus, BusOptions

WAIT_S = 60.0


@pytest.mark.parametrize(
    "module", ["gateway_hyperliquid", "gateway_tradexyz", "gateway_lighter", "router", "aggregator"]
)
def test_service_when_imported_loads_no_aiohttp(module: str) -> None:
    """8 MB that no service needs."""
    code = f"import sys, {module}.__main__; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=WAIT_S).returncode == 0


# nats-py gives aiohttp its time-out in a form that aiohttp would rather not see any more.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_connect_when_the_broker_is_behind_a_websocket_reaches_it(tmp_path: Path) -> None:
    """The one case in which aiohttp is needed."""
    (tmp_path / "nats.conf").write_text('websocket { host: "127.0.0.1", port: -1, no_tls: true }\n')
    arguments = ("--addr", "127.0.0.1", "--port", "-1", "--config", str(tmp_path / "nats.conf"))
    server = await asyncio.create_subprocess_exec(
        *(nats_server_path(), *arguments, "--ports_file_dir", str(tmp_path)), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(WAIT_S):
            while not (text := "".join(file.read_text() for file in tmp_path.glob("*.ports"))):
                await asyncio.sleep(0.01)
            url = json.loads(text)["websocket"][0]
            async with Bus.connect(BusOptions(servers=[url], name="test")) as bus:
                assert bus.connected
    finally:
        server.terminate()
        await server.wait()
