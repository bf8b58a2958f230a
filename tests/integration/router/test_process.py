"""`python -m router` as operators start it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import grpc

from tests.broker import Broker
from tests.integration.router.support import Gateway, gateways, health_becomes, orders, submit_request
from venuemesh.v1 import order_service_pb2

ROOT = Path(__file__).resolve().parents[3]


def environment(broker: Broker, venues: str) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("ROUTER_")},
        "ROUTER_VENUES": venues,
        "ROUTER_NATS__URLS": broker.url,
        "ROUTER_GRPC__PORT": "0",
        "ROUTER_GRPC__DRAIN_PAUSE_S": "0",
        "ROUTER_METRICS__PORT": "0",
    }


async def start(env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router"),
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_process_announces_itself_routes_and_stops_cleanly_on_sigterm(broker: Broker) -> None:
    """One ready line with bound addresses, an order through it, exit code 0."""
    gateway = Gateway("only")
    async with gateways(gateway), asyncio.timeout(30):
        process = await start(environment(broker, f"only={gateway.address}"))
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        async with grpc.aio.insecure_channel(ready["grpc_address"]) as channel:
            await health_becomes(channel, "venue/only", 1)
            answer = await orders(channel).SubmitOrder(submit_request(venue="only"), timeout=5)
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert (ready["event"], ready["service"]) == ("service_ready", "router")
    assert not ready["grpc_address"].endswith(":0")
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert process.returncode == 0, errors.decode()


async def test_process_with_bad_settings_names_every_fault_and_exits_2(broker: Broker) -> None:
    """All wrong keys at once, none of them started with."""
    env = {**environment(broker, "no-address"), "ROUTER_BOOKS__DEPTH": "0"}
    async with asyncio.timeout(30):
        process = await start(env)
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert "ROUTER_VENUES" in errors.decode()
    assert "ROUTER_BOOKS__DEPTH" in errors.decode()
