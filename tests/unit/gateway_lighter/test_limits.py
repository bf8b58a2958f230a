"""Weights, budgets by tier and the volume quota, as documented."""

from __future__ import annotations

import pytest

from gateway_lighter.limits import (
    REST,
    SETTINGS,
    TRANSACTIONS,
    Tier,
    TierLimits,
    VolumeQuota,
    endpoint_weight,
    transaction_priority,
)
from gateway_lighter.transactions import CancelAllOrders, CancelOrder, ModifyOrder, UpdateLeverage
from tests.unit.gateway_lighter.support import ORDER
from venuemesh.transport.limiter import Limiter, Priority

CANCEL = CancelOrder(market_index=0, index=1)
MODIFY = ModifyOrder(market_index=0, index=1, base_amount=1, price=1)
LEVERAGE = UpdateLeverage(market_index=0, initial_margin_fraction=500)


@pytest.mark.parametrize(
    ("endpoint", "weight"),
    [
        ("sendTx", 6),
        ("nextNonce", 6),
        ("accountInactiveOrders", 100),
        ("apikeys", 150),
        ("trades", 600),
        ("recentTrades", 600),
        ("referral/points", 3_000),
        ("account", 300),
        ("orderBookDetails", 300),
    ],
)
def test_endpoint_weight_is_as_documented(endpoint: str, weight: int) -> None:
    """Everything not listed costs 300."""
    assert endpoint_weight(endpoint) == weight


def test_standard_tier_counts_every_request_once_in_one_budget() -> None:
    """60 a minute for reads and transactions together."""
    limits = TierLimits()
    assert limits.read_charge("trades").costs == {REST: 1}
    assert limits.transaction_charge([ORDER]).costs == {REST: 1}
    limiter = Limiter(limits.budget_specs())
    granted = sum(limiter.try_acquire({REST: 1}, Priority.CANCEL, 0.0) for _ in range(100))
    assert granted == 60


@pytest.mark.parametrize(("tier", "reads", "sends"), [(Tier.PREMIUM, 24_000, 4_000), (Tier.PLUS, 120_000, 8_000)])
def test_paying_tiers_weigh_reads_and_count_transactions(tier: Tier, reads: int, sends: int) -> None:
    """Two budgets that do not touch each other."""
    limits = TierLimits(tier=tier)
    specs = {spec.name: spec.limit for spec in limits.budget_specs()}
    assert (specs[REST], specs[TRANSACTIONS]) == (reads, sends)
    assert limits.read_charge("trades").costs == {REST: 600}
    assert limits.transaction_charge([ORDER]).costs == {TRANSACTIONS: 1}


def test_staking_raises_the_transaction_budget() -> None:
    """As the operator configures it."""
    specs = TierLimits(tier=Tier.PREMIUM, transactions=12_000).budget_specs()
    assert {spec.name: spec.limit for spec in specs}[TRANSACTIONS] == 12_000


@pytest.mark.parametrize("tier", Tier)
def test_every_charge_fits_its_budgets_and_cancels_have_a_reserve(tier: Tier) -> None:
    """When orders have spent all they may, a cancel still passes."""
    limits = TierLimits(tier=tier)
    limiter = Limiter(limits.budget_specs())
    order, cancel = limits.transaction_charge([ORDER]), limits.transaction_charge([CANCEL])
    limiter.check(limits.read_charge("trades").costs, Priority.QUERY)
    while limiter.try_acquire(order.costs, order.priority, 0.0):
        pass
    assert limiter.try_acquire(cancel.costs, cancel.priority, 0.0)


def test_settings_have_a_budget_of_their_own() -> None:
    """40 a minute on every tier."""
    charge = TierLimits(tier=Tier.PREMIUM).transaction_charge([LEVERAGE, LEVERAGE])
    assert charge.costs == {TRANSACTIONS: 2, SETTINGS: 2}


def test_batch_costs_each_of_its_transactions_where_they_have_a_budget() -> None:
    """A standard account counts requests."""
    assert TierLimits(tier=Tier.PREMIUM).transaction_charge([ORDER] * 15).costs == {TRANSACTIONS: 15}
    assert TierLimits().transaction_charge([ORDER] * 15).costs == {REST: 1}


def test_batch_is_as_urgent_as_its_least_urgent_member() -> None:
    """An order cannot ride on a cancel's reserve."""
    limits = TierLimits()
    assert limits.transaction_charge([CANCEL, CANCEL]).priority is Priority.CANCEL
    assert limits.transaction_charge([CANCEL, ORDER]).priority is Priority.ORDER
    assert transaction_priority(CancelAllOrders()) is Priority.CANCEL
    with pytest.raises(ValueError, match="no transaction"):
        limits.transaction_charge([])


def test_quota_units_are_as_documented() -> None:
    """Orders, modifies and cancel-alls cost one, single cancels nothing."""
    assert [kind.quota_units for kind in (ORDER, MODIFY, CancelAllOrders(), CANCEL, LEVERAGE)] == [1, 1, 1, 0, 0]


def test_quota_follows_the_venue_and_counts_between_its_answers() -> None:
    """Unknown until told, never below zero."""
    quota = VolumeQuota()
    quota.spent(3)
    seen = [(quota.remaining, quota.exhausted)]
    for told, spent in ((2, 0), (None, 0), (None, 1), (None, 5)):
        quota.told(told)
        quota.spent(spent)
        seen.append((quota.remaining, quota.exhausted))
    assert seen == [(None, False), (2, False), (2, False), (1, False), (0, True)]
