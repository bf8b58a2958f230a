"""The router's settings."""

from __future__ import annotations

import pytest

from router.settings import ROUTER_PORT, RouterSettings
from venuemesh.settings import SettingsError


def test_venues_are_read_from_one_variable_in_order() -> None:
    """Names and addresses; the port has its default."""
    settings = RouterSettings.load({"ROUTER_VENUES": "hyperliquid=127.0.0.1:50051, tradexyz=gateway-xyz:50052"})
    assert settings.gateways == {"hyperliquid": "127.0.0.1:50051", "tradexyz": "gateway-xyz:50052"}
    assert settings.grpc.port == ROUTER_PORT


@pytest.mark.parametrize(
    "venues", ["", "hyperliquid", "Hyper=1:1", "a=b", "a=127.0.0.1:", "a=127.0.0.1:1,a=127.0.0.1:2", "a=http://x:1/"]
)
def test_bad_venues_are_refused_by_key(venues: str) -> None:
    """Missing address, bad name, twice the same."""
    with pytest.raises(SettingsError) as caught:
        RouterSettings.load({"ROUTER_VENUES": venues})
    assert "ROUTER_VENUES" in str(caught.value)


def test_missing_venues_and_other_faults_are_told_together() -> None:
    """All bad keys in one report."""
    with pytest.raises(SettingsError) as caught:
        RouterSettings.load({"ROUTER_BOOKS__DEPTH": "0", "ROUTER_GATEWAY__RESERVE_S": "-1", "ROUTER_TYPO": "1"})
    text = str(caught.value)
    for key in ("venues", "ROUTER_BOOKS__DEPTH", "ROUTER_GATEWAY__RESERVE_S", "ROUTER_TYPO"):
        assert key in text
