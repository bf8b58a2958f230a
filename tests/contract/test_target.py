"""Where the suite refuses to run."""

from __future__ import annotations

import pytest

from tests.contract.client import ALLOW_MAINNET, refusal_to_run
from venuemesh.v1 import venue_pb2


@pytest.mark.parametrize("environment", [venue_pb2.ENVIRONMENT_MAINNET, venue_pb2.ENVIRONMENT_UNSPECIFIED])
def test_gateway_of_real_money_is_refused_unless_allowed(environment: venue_pb2.Environment.ValueType) -> None:
    """And one that does not say what it is bound to."""
    venue = venue_pb2.Venue(venue="somewhere", environment=environment)
    assert ALLOW_MAINNET in refusal_to_run(venue, {})
    assert refusal_to_run(venue, {ALLOW_MAINNET: "1"})
    assert not refusal_to_run(venue, {ALLOW_MAINNET: "yes"})


@pytest.mark.parametrize("environment", [venue_pb2.ENVIRONMENT_SIMULATOR, venue_pb2.ENVIRONMENT_TESTNET])
def test_gateway_of_a_simulator_or_test_network_is_taken(environment: venue_pb2.Environment.ValueType) -> None:
    """Nothing has to be allowed there."""
    assert not refusal_to_run(venue_pb2.Venue(environment=environment), {})
