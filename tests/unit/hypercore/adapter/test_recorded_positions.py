"""Recorded fills, folded as the gateway folds them, give the positions and profits the venue recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hypercore.account_messages import Fill
from hypercore.adapter.normalizer import side_of
from hypercore.codec import parse_info
from tests.recordings import needs_recordings, recordings
from venuemesh.gateway.positions import PositionState, apply_fill

pytestmark = needs_recordings("hyperliquid")

FOLDER = recordings("hyperliquid")
FILES = sorted(FOLDER.glob("info_userFills*.json")) if FOLDER.is_dir() else []
ZERO = Decimal(0)
ENTRY_PRECISION = Decimal("0.0001")


def chains(path: Path) -> Iterator[list[Fill]]:
    """The fills of each perpetual, oldest first; cut where the recording leaves some out."""
    recorded: Any = json.loads(path.read_text())
    fills: tuple[Fill, ...] = parse_info("userFills", json.dumps(recorded["response"]).encode())
    by_coin: dict[str, list[Fill]] = {}
    for fill in fills:
        if fill.dir not in ("Buy", "Sell", "Spot Dust Conversion"):
            by_coin.setdefault(fill.coin, []).append(fill)
    for rows in by_coin.values():
        chain: list[Fill] = []
        for row in in_order(rows):
            if chain and after(chain[-1]) != row.start_position:
                yield chain
                chain = []
            chain.append(row)
        yield chain


def in_order(rows: list[Fill]) -> Iterator[Fill]:
    """By time; rows of one instant, which the venue lists in no fixed order, as their positions join."""
    waiting = sorted(rows, key=lambda row: row.time)
    last: Fill | None = None
    while waiting:
        instant = [row for row in waiting if row.time == waiting[0].time]
        joins = [row for row in instant if last is not None and row.start_position == after(last)]
        starts = [row for row in instant if all(row.start_position != after(other) for other in instant)]
        last = (joins or starts or instant)[0]
        waiting.remove(last)
        yield last


def after(fill: Fill) -> Decimal:
    """Signed position behind a fill, by the venue's numbers."""
    return fill.start_position + (fill.sz if fill.side == "B" else -fill.sz)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recorded_fills_give_the_recorded_positions(path: Path) -> None:
    """Before each fill the folded quantity is the venue's `startPosition`; many rows are in unbroken chains."""
    rows = linked = 0
    for chain in chains(path):
        state = PositionState(symbol="X/USDC:USDC", quantity=chain[0].start_position)
        for fill in chain:
            assert state.quantity == fill.start_position, (fill.coin, fill.time)
            state = apply_fill(state, side=side_of(fill.side), quantity=fill.sz, price=fill.px, fee=fill.fee).state
            assert state.quantity == after(fill)
        rows += len(chain)
        linked += len(chain) - 1
    assert linked > rows // 3


def test_recorded_fills_give_the_recorded_profit() -> None:
    """Where a chain was flat or changed sides the cost is known, and each profit is the venue's `closedPnl`.

    The venue reckons from an entry price of five significant figures, ours is exact. Recordings of 2023, without
    trade ids, leave out rows between equal positions, so that costs are not known from them.
    """
    compared = 0
    for chain in (chain for path in FILES for chain in chains(path) if all(row.tid for row in chain)):
        state, known = PositionState(symbol="X/USDC:USDC", quantity=chain[0].start_position), False
        for fill in chain:
            if not fill.start_position:
                state, known = replace(state, quantity=ZERO, open_cost=ZERO), True
            before = state
            state = apply_fill(state, side=side_of(fill.side), quantity=fill.sz, price=fill.px, fee=fill.fee).state
            if known and fill.closed_pnl and before.entry_price:
                allowed = fill.sz * before.entry_price * ENTRY_PRECISION
                profit = state.realized_pnl - before.realized_pnl
                assert abs(profit - fill.closed_pnl) <= allowed, (fill.coin, fill.time)
                compared += 1
            # What is open after a change of sides was opened by this fill alone.
            known = known or fill.start_position * after(fill) < 0
    assert compared
