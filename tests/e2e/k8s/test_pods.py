"""A mesh made of the manifests: three brokers, every gateway with its venue, router, aggregator, TLS between all."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest

from tests.e2e.k8s.pods import Cluster, Image, cluster
from tests.e2e.mesh import SYMBOL, market_order
from tests.unit.deploy.k8s.manifests import GATEWAYS, ROOT, SERVICES, component, of_kind
from venuemesh.channels import open_channel
from venuemesh.secrets import read_secret
from venuemesh.subjects import JOURNAL_STREAM
from venuemesh.v1 import (
    order_service_pb2,
    order_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    risk_pb2,
    risk_service_pb2,
    risk_service_pb2_grpc,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("kubernetes-mesh"),
    pytest.mark.skipif("VENUEMESH_PODS" not in os.environ, reason="run by `make k8s-check`"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs more loopback addresses than one"),
]

BROKERS = [f"nats-{number}" for number in range(3)]


async def order_reaches_the_portfolio(up: Cluster, venue: str, key: str) -> None:
    """Through the router with a token, to the venue, over the brokers, into the aggregator."""
    token = read_secret(up.files("client-token") / "token")
    tls = up.channel_files("operator")
    async with (
        open_channel(f"{up.address('router')}:50050", tls=tls, token=token) as router,
        open_channel(f"{up.address('aggregator')}:50060", tls=tls, token=token) as aggregator,
    ):
        orders: Any = order_service_pb2_grpc.OrderServiceStub(router)
        portfolio: Any = portfolio_service_pb2_grpc.PortfolioServiceStub(aggregator)
        reply = await orders.SubmitOrder(market_order(key, venue=venue), timeout=20)
        assert reply.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
        watch = portfolio.StreamPortfolio(portfolio_service_pb2.StreamPortfolioRequest(), timeout=60)
        async for message in watch:
            accounts = [*message.snapshot.accounts, *message.delta.accounts]
            rows = {(row.symbol, row.venue, row.quantity) for account in accounts for row in account.positions}
            if (SYMBOL, venue, "0.01") in rows:
                break
        else:
            pytest.fail("the portfolio's stream ended before the position")
        watch.cancel()


async def test_mesh_of_the_manifests_trades_tells_its_metrics_and_ends_in_order(tmp_path: Path) -> None:
    """Every probe turns, orders go through, Prometheus reads all services, SIGTERM ends each with 0 in its grace."""
    server_name = of_kind(component("monitoring"), "ServiceMonitor")["venuemesh"]["spec"]["endpoints"][0]["tlsConfig"]
    image = Image(environment=Path(sys.executable).parents[1], app=ROOT)
    async with asyncio.timeout(400), cluster(tmp_path, image) as up:
        await up.start(BROKERS)
        await up.start([f"{name}-0" for name in GATEWAYS])
        await up.start(["router", "aggregator"])
        await order_reaches_the_portfolio(up, "hyperliquid", "pods-1")
        for name in SERVICES:
            assert "venuemesh_grpc_calls_total" in await up.scrape(name, server_name["serverName"])
        await trading_state_is_kept(up)
        await broker_lets_nobody_take_the_journal_away(up)
        assert await up.stop("nats-2") in (0, 1)
        await order_reaches_the_portfolio(up, "lighter", "pods-2")
        for name in ("router", "aggregator", *(f"{each}-0" for each in GATEWAYS)):
            assert await up.stop(name) == 0, up.pods[name].log()


async def trading_state_is_kept(up: Cluster) -> None:
    """The router writes to the risk bucket, so the broker's permissions cover it."""
    token = read_secret(up.files("client-token") / "token")
    tls = up.channel_files("operator")
    request = risk_service_pb2.SetTradingStateRequest(
        scope=risk_pb2.RiskScope(venue="tradexyz"),
        state=risk_pb2.TRADING_STATE_REDUCE_ONLY,
        operator="test",
        reason="trial",
    )
    async with open_channel(f"{up.address('router')}:50050", tls=tls, token=token) as router:
        stub: Any = risk_service_pb2_grpc.RiskServiceStub(router)
        reply = await stub.SetTradingState(request, timeout=20)
    assert reply.trading_state.state == risk_pb2.TRADING_STATE_REDUCE_ONLY


async def broker_lets_nobody_take_the_journal_away(up: Cluster) -> None:
    """Not even a service; and a certificate that names no service is no user."""

    async def connect(holder: str) -> Any:
        folder = up.files(f"{holder}-tls")
        context = ssl.create_default_context(cafile=folder / "ca.crt")
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        url = f"tls://{up.pods['nats-0'].address}:4222"
        return await nats.connect(url, tls=context, allow_reconnect=False, connect_timeout=5, error_cb=_ignore)

    client = await connect("router")
    stream = client.jetstream(timeout=2)
    assert (await stream.stream_info(JOURNAL_STREAM)).config.num_replicas == len(BROKERS)
    with pytest.raises((nats.errors.Error, nats.js.errors.Error, TimeoutError)):
        await stream.delete_stream(JOURNAL_STREAM)
    assert (await stream.stream_info(JOURNAL_STREAM)).state.messages > 0
    await client.close()
    with pytest.raises((nats.errors.Error, ConnectionError, OSError)):
        await (await connect("operator")).flush()


async def _ignore(_: Exception) -> None:
    """Refusals are asserted where they are raised."""
