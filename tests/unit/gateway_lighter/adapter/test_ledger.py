"""Histories of money as ledger entries."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter.account_messages import Deposit, Deposits, TransferRow, Withdrawal
from gateway_lighter.codec import parse_answer
from gateway_lighter.ledger import Ledger, instant_ns
from tests.unit.gateway_lighter.support import needs_recordings, recording
from venuemesh.errors import ProtocolViolation
from venuemesh.v1 import account_pb2

ME, OTHER = 4242, 777
NAMES = {1: "ETH", 3: "USDC"}
LEDGER = Ledger(venue="lighter", account_id="main", account_index=ME, collateral="USDC", asset_name=NAMES.get)
AT_MS = 1_766_387_292_752


def deposit(**changes: Any) -> Deposit:
    values = {"id": "7", "amount": Decimal(100), "timestamp": AT_MS, "status": "completed", "asset_id": 3}
    return Deposit(**(values | changes))


def withdrawal(**changes: Any) -> Withdrawal:
    values = {"id": "8", "amount": Decimal(40), "timestamp": AT_MS, "status": "completed", "asset_id": 3}
    return Withdrawal(**(values | changes))


def transfer(**changes: Any) -> TransferRow:
    values = {
        "id": "9",
        "amount": Decimal("11.5"),
        "timestamp": AT_MS,
        "type": "L2TransferOutflow",
        "from_account_index": ME,
        "to_account_index": OTHER,
        "from_route": "perps",
        "to_route": "perps",
        "asset_id": 3,
    }
    return TransferRow(**(values | changes))


def short(entries: list[account_pb2.LedgerEntry]) -> list[tuple[str, str, str, str]]:
    """Id, asset, amount and section of each."""
    return [(row.ledger_entry_id, row.asset, row.amount, row.venue_section) for row in entries]


def test_deposit_counts_once_it_has_arrived() -> None:
    """Collateral goes to the main section, all else to spot."""
    assert short(LEDGER.deposit(deposit())) == [("deposit-7", "USDC", "100", "")]
    assert short(LEDGER.deposit(deposit(asset_id=1))) == [("deposit-7", "ETH", "100", "spot")]
    assert short(LEDGER.deposit(deposit(asset_id=0))) == [("deposit-7", "USDC", "100", "")]
    assert [LEDGER.deposit(deposit(status=word)) for word in ("pending", "failed", "claimable")] == [[], [], []]
    (entry,) = LEDGER.deposit(deposit())
    assert entry.ledger_entry_type == account_pb2.LEDGER_ENTRY_TYPE_DEPOSIT
    assert entry.venue_time.ToMilliseconds() == AT_MS


@pytest.mark.parametrize(
    ("status", "amounts"),
    [
        ("pending", ["-40"]),
        ("claimable", ["-40"]),
        ("completed", ["-40"]),
        ("refunded", ["-40", "40"]),
        ("failed", []),
    ],
)
def test_withdrawal_counts_from_the_moment_it_leaves_and_again_when_it_comes_back(
    status: str, amounts: list[str]
) -> None:
    """The same id whatever its status, so that it counts once."""
    entries = LEDGER.withdrawal(withdrawal(status=status))
    assert [row.amount for row in entries] == amounts
    assert [row.ledger_entry_id for row in entries] == ["withdrawal-8", "withdrawal-8-refund"][: len(amounts)]


def test_transfer_has_the_direction_of_its_accounts() -> None:
    """Out with its fee, in, and both where it moves between sections of one account; types are not needed."""
    assert short(LEDGER.transfer(transfer(fee=Decimal("0.5"), type="L2Something"))) == [
        ("transfer-9-out", "USDC", "-11.5", ""),
        ("transfer-9-fee", "USDC", "-0.5", ""),
    ]
    back = {"from_account_index": OTHER, "to_account_index": ME, "to_route": "spot", "fee": Decimal(1)}
    assert short(LEDGER.transfer(transfer(**back))) == [("transfer-9-in", "USDC", "11.5", "spot")]
    own = {"to_account_index": ME, "to_route": "spot"}
    assert short(LEDGER.transfer(transfer(**own))) == [
        ("transfer-9-out", "USDC", "-11.5", ""),
        ("transfer-9-in", "USDC", "11.5", "spot"),
    ]
    without = {"from_route": None, "to_route": None, "asset_id": 1}
    assert short(LEDGER.transfer(transfer(**without))) == [("transfer-9-out", "ETH", "-11.5", "spot")]


@pytest.mark.parametrize(
    "read",
    [
        lambda: LEDGER.deposit(deposit(status="eaten")),
        lambda: LEDGER.withdrawal(withdrawal(status="")),
        lambda: LEDGER.deposit(deposit(asset_id=99)),
        lambda: LEDGER.transfer(transfer(from_account_index=OTHER)),
    ],
)
def test_row_that_makes_no_sense_is_a_violation(read: Any) -> None:
    """Never an entry by guess."""
    with pytest.raises(ProtocolViolation):
        read()


@given(
    rows=st.lists(
        st.builds(
            transfer,
            id=st.uuids().map(str),
            amount=st.decimals(min_value="0.000001", max_value=10**9, places=6),
            fee=st.decimals(min_value=0, max_value=3, places=6),
            from_account_index=st.just(ME),
            to_account_index=st.sampled_from([ME, OTHER]),
        ),
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_entries_sum_to_what_left_the_account(rows: list[TransferRow]) -> None:
    """Append-only: the sum of entries is the change of the balance, and every entry has an id of its own."""
    entries = [entry for row in rows for entry in LEDGER.transfer(row)]
    left = sum((row.amount for row in rows if row.to_account_index == OTHER), Decimal(0))
    fees = sum((row.fee for row in rows), Decimal(0))
    assert sum((Decimal(entry.amount) for entry in entries), Decimal(0)) == -left - fees
    assert len({entry.ledger_entry_id for entry in entries}) == len(entries)


def test_instants_are_read_in_seconds_and_in_milliseconds() -> None:
    """The documentation writes the one, servers send the other."""
    assert instant_ns(1_640_995_200) == 1_640_995_200 * 10**9
    assert instant_ns(1_640_995_200_123) == 1_640_995_200_123 * 10**6


@needs_recordings
def test_recorded_history_is_read() -> None:
    """A deposit that failed is none."""
    page = parse_answer("deposit/history", json.dumps(recording("rest_deposit_history.json")).encode())
    assert isinstance(page, Deposits)
    (row,) = page.deposits or ()
    assert LEDGER.deposit(row) == []
