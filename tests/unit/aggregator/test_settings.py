"""Settings of the aggregator."""

from __future__ import annotations

import pytest

from aggregator.settings import AggregatorSettings
from venuemesh.settings import SettingsError


def test_defaults_need_nothing() -> None:
    """Loopback, the usual port, no live marks."""
    settings = AggregatorSettings.load({})
    assert (settings.grpc.host, settings.grpc.port) == ("127.0.0.1", 50060)
    assert (settings.venue_addresses, settings.router_address) == ({}, None)


def test_venues_are_read_by_name() -> None:
    """`name=host:port`, separated by commas; the port of the server survives other gRPC keys."""
    settings = AggregatorSettings.load(
        {
            "AGGREGATOR_VENUES": "hyperliquid=127.0.0.1:50051, lighter=gateway:1",
            "AGGREGATOR_ROUTER_ADDRESS": "127.0.0.1:50050",
            "AGGREGATOR_GRPC__DRAIN_PAUSE_S": "0",
        }
    )
    assert settings.venue_addresses == {"hyperliquid": "127.0.0.1:50051", "lighter": "gateway:1"}
    assert (settings.router_address, settings.grpc.port) == ("127.0.0.1:50050", 50060)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("VENUES", "hyperliquid"),
        ("VENUES", "a=x:1,a=y:2"),
        ("ROUTER_ADDRESS", "50050"),
        ("FOLD__AWAY_AFTER_S", "0"),
        ("FOLD__QUEUE_CAPACITY", "1"),
        ("MARKS__INTERVAL_S", "-1"),
    ],
)
def test_bad_value_is_named(key: str, value: str) -> None:
    """The key as the operator wrote it stands in the fault."""
    with pytest.raises(SettingsError, match=f"AGGREGATOR_{key}"):
        AggregatorSettings.load({f"AGGREGATOR_{key}": value})
