"""The metrics endpoint over HTTP."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from venuemesh.metrics import Metrics
from venuemesh.security.certificates import CertificateError, ServerFiles
from venuemesh.security.local_certificates import write_certificates


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


def _context(folder: Path, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if name is not None:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


async def test_metrics_over_tls_answer_only_who_shows_a_certificate_and_follow_replaced_files(tmp_path: Path) -> None:
    """Wider than loopback they are read by Prometheus and by nobody else, also after the certificates changed."""
    write_certificates(tmp_path, ("router", "metrics"), ("localhost",), datetime.now(UTC))
    files = ServerFiles(
        cert_file=tmp_path / "router.pem", key_file=tmp_path / "router.key", client_ca_file=tmp_path / "ca.pem"
    )
    metrics = Metrics()
    metrics.counter("orders", "Orders.").inc()

    async def read(context: ssl.SSLContext) -> str:
        async with httpx.AsyncClient(trust_env=False, verify=context) as client:
            return (await client.get(f"https://localhost:{port}/metrics")).text

    async with asyncio.timeout(30), metrics.serve(tls=files) as port:
        former = _context(tmp_path, "metrics")
        assert "venuemesh_orders_total 1.0" in await read(former)
        with pytest.raises((httpx.TransportError, OSError)):
            await read(_context(tmp_path, None))
        write_certificates(tmp_path, ("router", "metrics"), ("localhost",), datetime.now(UTC))
        assert "venuemesh_orders_total 1.0" in await read(_context(tmp_path, "metrics"))
        with pytest.raises((httpx.TransportError, OSError)):
            await read(former)


async def test_metrics_over_tls_when_a_file_is_missing_refuse_to_start(tmp_path: Path) -> None:
    """No endpoint is better than an open one."""
    missing = tmp_path / "none.pem"
    with pytest.raises(CertificateError, match="cannot be used"):
        async with Metrics().serve(tls=ServerFiles(cert_file=missing, key_file=missing, client_ca_file=missing)):
            pass
