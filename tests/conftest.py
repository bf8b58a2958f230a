"""Fixtures every test may use."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.broker import Broker

# How long one example takes says nothing on a machine that does other work as well.
settings.register_profile("mesh", deadline=None)
settings.load_profile("mesh")


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep tests of one `xdist_group` on one worker."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            _name_group(item)


def _name_group(item: pytest.Item) -> None:
    """Put the test's group into its node id, where the scheduler of pytest-xdist looks for it.

    pytest-xdist 3.8 writes it to an attribute that pytest 9.2 does not read, so that groups are torn apart.
    """
    mark = item.get_closest_marker("xdist_group")
    if mark is not None and hasattr(item, "_id") and "@" not in item.nodeid:
        item._id = type(item._id).parse(f"{item.nodeid}@{mark.args[0]}")
