"""How long a gateway needs to know an account of many orders again: from a snapshot, and by folding its whole log.

    python -m benchmarks.gateway_restart                 # 50,000 orders, four events each; about a minute
    python -m benchmarks.gateway_restart --orders 250000

The events are those of a real account: an order is taken, acknowledged, filled at once, and moves its position. Both
ways must give the same state, to the byte; exit 1 when they do not. `held_ms` is the most processor time for which
others had to wait while the snapshot was made in the background, as a gateway does it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.portfolio_world import SYMBOLS, VENUE, broker, bus
from venuemesh.bus import Bus
from venuemesh.clock import SystemClock
from venuemesh.gateway.account import Account
from venuemesh.gateway.account_fold import AccountFold
from venuemesh.gateway.account_snapshots import AccountSnapshots, SnapshotSettings
from venuemesh.gateway.facts import Accepted, Filled
from venuemesh.gateway.order_wire import new_order_state, order_id_of
from venuemesh.gateway.venue import VenueFill
from venuemesh.journal import AccountHistory, EventLog
from venuemesh.money import use_exact_arithmetic
from venuemesh.v1 import order_pb2

ACCOUNT = "account-0"
CAPACITY = 20_000
ONE = Decimal(1)


async def _trade(connected: Bus, orders: int) -> tuple[str, int]:
    """Write the log; returns its epoch and its last number."""
    clock = SystemClock()
    log = EventLog(connected, venue=VENUE, writer_id="bench", clock=clock, capacity=2 * CAPACITY)
    await log.open()
    running = asyncio.create_task(log.run(), name="log")
    account = Account(venue=VENUE, account_id=ACCOUNT, log=log, clock=clock, settle_asset_of=lambda symbol: "USDC")
    for number in range(orders):
        _order(account, number, clock.now_ns())
        if log.backlog >= CAPACITY:
            await log.flush()
    await log.flush()
    running.cancel()
    await asyncio.wait([running])
    return log.epoch, log.sequence(ACCOUNT)


def _order(account: Account, number: int, now_ns: int) -> None:
    key, symbol = f"order-{number}", SYMBOLS[number % len(SYMBOLS)]
    side = order_pb2.SIDE_BUY if number % 2 == 0 else order_pb2.SIDE_SELL
    terms = order_pb2.NewOrder(
        account_id=ACCOUNT,
        client_order_id=key,
        symbol=symbol,
        side=side,
        order_type=order_pb2.ORDER_TYPE_LIMIT,
        time_in_force=order_pb2.TIME_IN_FORCE_GTC,
        quantity="1",
        price="100",
    )
    order_id = order_id_of(VENUE, ACCOUNT, key)
    account.take(
        new_order_state(
            terms, order_id=order_id, venue_symbol="C", venue_client_order_id=f"0x{order_id}", now_ns=now_ns
        )
    )
    account.apply(order_id, Accepted(venue_order_id=str(number)))
    fill = VenueFill(
        execution_id=f"x{number}",
        symbol=symbol,
        side=side,
        quantity=ONE,
        price=Decimal(100),
        fee=Decimal("0.01"),
        fee_asset="USDC",
        venue_order_id=str(number),
        venue_client_order_id=f"0x{order_id}",
        trade_id=str(number),
        liquidity_role=order_pb2.LIQUIDITY_ROLE_TAKER,
        venue_realized_pnl=None,
        venue_time_ns=now_ns,
    )
    account.apply(order_id, Filled(fill=fill))


def _state(fold: AccountFold) -> list[bytes]:
    return [piece.SerializeToString(deterministic=True) for piece in fold.pieces()]


@asynccontextmanager
async def _longest_hold() -> AsyncIterator[list[float]]:
    """The most processor time that went by between two turns of another task."""
    longest = [0.0]

    async def look() -> None:
        while True:
            begun_s = time.thread_time()
            await asyncio.sleep(0)
            longest[0] = max(longest[0], time.thread_time() - begun_s)

    looking = asyncio.create_task(look(), name="look")
    try:
        yield longest
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def _measure(orders: int) -> dict[str, Any]:
    use_exact_arithmetic()
    async with broker() as url, bus(url) as connected:
        epoch, last = await _trade(connected, orders)
        # As a service does once it has started: what is there then is not looked through again.
        gc.collect()
        gc.freeze()
        print(f"{last:,} events of {orders:,} orders in the log", flush=True)

        def snapshots(**settings: Any) -> AccountSnapshots:
            return AccountSnapshots(
                connected,
                VENUE,
                [ACCOUNT],
                history=lambda account_id: AccountHistory(connected, VENUE, account_id),
                sequence=lambda account_id: last,
                epoch=lambda: epoch,
                settings=SnapshotSettings(**settings),
            )

        begun_s = time.monotonic()
        whole = await snapshots(every_events=0).fold(ACCOUNT)
        folded_s = time.monotonic() - begun_s
        print(f"by folding the whole log: {folded_s:.2f} s", flush=True)
        begun_s = time.monotonic()
        async with _longest_hold() as longest:
            await snapshots().save(ACCOUNT)
        saved_s = time.monotonic() - begun_s
        print(f"snapshot made in {saved_s:.1f} s, loop held for at most {1e3 * longest[0]:.1f} ms", flush=True)
        begun_s = time.monotonic()
        restored = await snapshots().fold(ACCOUNT)
        restored_s = time.monotonic() - begun_s
        print(f"from the snapshot: {restored_s:.2f} s", flush=True)
    same = _state(whole) == _state(restored)
    print(f"the same state: {same}")
    return {
        "orders": orders,
        "events": last,
        "folded_s": round(folded_s, 2),
        "restored_s": round(restored_s, 2),
        "saved_s": round(saved_s, 1),
        "held_ms": round(1e3 * longest[0], 1),
        "same": same,
    }


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=50_000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(_measure(args.orders))
    if args.json:
        args.json.write_text(json.dumps(figures))
    return int(not figures["same"])


if __name__ == "__main__":
    sys.exit(main())
