"""The metrics endpoint over HTTP."""

from __future__ import annotations

import httpx
import pytest

from venuemesh.metrics import Metrics


async def test_metrics_when_served_answer_on_loopback_and_close_cleanly() -> None:
    """Port 0 gives a free port; after the block nothing listens."""
    metrics = Metrics()
    metrics.counter("orders", "Orders.").inc()
    async with httpx.AsyncClient(trust_env=False) as client:
        async with metrics.serve() as port:
            url = f"http://127.0.0.1:{port}/metrics"
            answer = await client.get(url)
            assert answer.status_code == 200
            assert "venuemesh_orders_total 1.0" in answer.text
        with pytest.raises(httpx.ConnectError):
            await client.get(url)


async def test_metrics_when_the_port_is_taken_raise() -> None:
    """A second process on the same port must not start in silence."""
    async with Metrics().serve() as port:
        with pytest.raises(OSError, match="in use"):
            async with Metrics().serve(port=port):
                pass
