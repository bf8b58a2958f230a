"""The fault table, request weights and settings."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import ValidationError

from simulator.faults import Fault, FaultKind, FaultPlan
from simulator.hyperliquid.limits import WeightLimit, action_weight, info_weight
from simulator.settings import SimulatorSettings


def test_fault_when_counted_and_skipped_hits_exactly_those_requests() -> None:
    """Skip one, hit two, then be gone."""
    plan = FaultPlan()
    plan.add(Fault(kind=FaultKind.DROP_REPLY, match="order", skip=1, count=2))
    hits = [plan.request_fault("order") is not None for _ in range(5)]
    assert hits == [False, True, True, False, False]
    assert plan.rules == ()


def test_fault_when_of_another_name_or_point_does_not_hit() -> None:
    """Names match exactly; frame faults never touch requests."""
    plan = FaultPlan()
    plan.add(Fault(kind=FaultKind.RATE_LIMIT, match="cancel"))
    plan.add(Fault(kind=FaultKind.DROP_FRAME, match="*"))
    assert plan.request_fault("order") is None
    assert plan.request_fault("cancel") is not None
    assert plan.frame_fault("orderUpdates") is not None


def test_fault_when_without_count_stays_until_cleared() -> None:
    """Zero means for ever."""
    plan = FaultPlan()
    plan.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
    assert all(plan.refuses_connections() for _ in range(5))
    plan.clear()
    assert not plan.refuses_connections()


def test_weight_when_spent_frees_after_a_minute() -> None:
    """A sliding window per address."""
    limit = WeightLimit(100)
    limit.spend("a", 100, 0)
    assert limit.exhausted("a", 59_999)
    assert not limit.exhausted("b", 59_999)
    assert not limit.exhausted("a", 60_000)


def test_weights_when_computed_follow_the_reference() -> None:
    """Batches by forty, light reads two, roles sixty, rows by twenty."""
    assert [action_weight(n) for n in (1, 39, 40, 200)] == [1, 1, 2, 6]
    assert info_weight("l2Book", {}) == 2
    assert info_weight("userRole", {}) == 60
    assert info_weight("userFills", [{}] * 45) == 22
    assert info_weight("candleSnapshot", [{}] * 120) == 22


def test_settings_when_addresses_are_mixed_case_are_lowered_and_bad_ones_refused() -> None:
    """Accounts are compared in lower case."""
    mixed = "0x" + "Ab" * 20
    found = SimulatorSettings(accounts={mixed: Decimal(5)}, agents={mixed: mixed})
    assert found.accounts == {mixed.lower(): Decimal(5)}
    assert found.agents == {mixed.lower(): mixed.lower()}
    with pytest.raises(ValidationError):
        SimulatorSettings(accounts={"0x12": Decimal(5)})
