"""Every fault test runs against each kind of venue, unless it names one."""

from __future__ import annotations

import pytest

from tests.integration.faults.hypercore import HyperCoreSide
from tests.integration.faults.lighter import LighterSide
from tests.integration.faults.sides import VenueSide

SIDES: dict[str, type[HyperCoreSide] | type[LighterSide]] = {
    "hypercore": HyperCoreSide,
    "lighter": LighterSide,
}


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> VenueSide:
    """A venue whose simulator has not begun yet."""
    return SIDES[request.param]()
