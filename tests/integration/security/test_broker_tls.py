"""The broker over TLS, each side showing a certificate."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.broker import Broker
from venuemesh.bus import Bus
from venuemesh.errors import JournalUnavailable
from venuemesh.running import bus_options
from venuemesh.security.local_certificates import write_certificates
from venuemesh.settings import NatsSettings


async def test_service_reaches_a_broker_that_asks_for_its_certificate(tmp_path: Path) -> None:
    """With the files of the settings it connects; without a certificate of its own it does not."""
    write_certificates(tmp_path, ("nats", "router"), ("localhost", "127.0.0.1"), datetime.now(UTC))
    files = {name: str(tmp_path / name) for name in ("ca.pem", "nats.pem", "nats.key")}
    tls = ("--tls", "--tlscert", files["nats.pem"], "--tlskey", files["nats.key"])
    broker = Broker(tmp_path / "broker", (*tls, "--tlsverify", "--tlscacert", files["ca.pem"]))
    await broker.start()
    try:
        url = broker.url.replace("nats://", "tls://")
        settings = NatsSettings(
            urls=(url,),
            ca_file=tmp_path / "ca.pem",
            cert_file=tmp_path / "router.pem",
            key_file=tmp_path / "router.key",
        )
        async with asyncio.timeout(30):
            async with Bus.connect(bus_options("router", settings)) as bus:
                assert bus.connected
            unknown = NatsSettings(urls=(url,), ca_file=tmp_path / "ca.pem", connect_timeout_s=3)
            with pytest.raises(JournalUnavailable):
                async with Bus.connect(bus_options("router", unknown)):
                    pass
    finally:
        await broker.stop()
