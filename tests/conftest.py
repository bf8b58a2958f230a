"""Fixtures every test may use."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker import Broker


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A running nats-server of this test's own."""
    with tempfile.TemporaryDirectory(prefix="venuemesh-nats-") as folder:
        running = Broker(Path(folder))
        await running.start()
        try:
            yield running
        finally:
            await running.stop()
