"""`python -m aggregator` as an operator starts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import grpc
import grpc.aio

from tests.broker import Broker
from tests.integration.aggregator.world import Publisher, is_a, read_until
from tests.unit.aggregator.gateway_events import Gateway
from venuemesh.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc, stream_pb2

ROOT = Path(__file__).resolve().parents[3]


async def start(**settings: str) -> asyncio.subprocess.Process:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AGGREGATOR_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aggregator",
        cwd=ROOT,
        env={**environment, **{f"AGGREGATOR_{key}": value for key, value in settings.items()}},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_process_says_ready_serves_and_drains_on_sigterm(broker: Broker) -> None:
    """The ready line names its addresses; SIGTERM says goodbye to streams and exits with 0."""
    async with Publisher.connect(broker) as publisher:
        await publisher.publish(Gateway().balance("12.5"))
        process = await start(NATS__URLS=broker.url, GRPC__PORT="0", GRPC__DRAIN_PAUSE_S="0", FOLD__CHECK_EVERY_S="0.1")
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                ready = json.loads(await process.stdout.readline())
            assert (ready["event"], ready["service"]) == ("service_ready", "aggregator")
            assert ready["metrics_address"].startswith("127.0.0.1:")
            async with grpc.aio.insecure_channel(ready["grpc_address"]) as channel:
                stub = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
                answer = await stub.GetPortfolio(portfolio_service_pb2.GetPortfolioRequest(), timeout=10)
                assert answer.portfolio.totals[0].balance == "12.5"
                call = stub.StreamPortfolio(portfolio_service_pb2.StreamPortfolioRequest(), timeout=60)
                await read_until(call, is_a("snapshot"))
                process.send_signal(signal.SIGTERM)
                messages = await read_until(call, is_a("closing"))
                assert messages[-1].closing.reason == stream_pb2.CLOSING_REASON_DRAINING
            async with asyncio.timeout(30):
                out, err = await process.communicate()
            assert process.returncode == 0, err.decode()
            assert out == b""
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def test_wrong_settings_are_all_named_and_exit_with_2() -> None:
    """No half start: every bad key at once."""
    process = await start(VENUES="nowhere", ROUTER_ADDRESS="?", FOLD__MAX_VIEWS="0", TYPO="1")
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 2
    for key in ("AGGREGATOR_VENUES", "AGGREGATOR_ROUTER_ADDRESS", "AGGREGATOR_FOLD__MAX_VIEWS", "AGGREGATOR_TYPO"):
        assert key in err.decode()


async def test_broker_not_there_at_the_start_exits_with_1() -> None:
    """A supervisor is told by the exit code."""
    process = await start(NATS__URLS="nats://127.0.0.1:1", NATS__CONNECT_TIMEOUT_S="0.2", GRPC__PORT="0")
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert "does not answer" in err.decode()
