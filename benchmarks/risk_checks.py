"""How long all risk checks of one order take: `python -m benchmarks.risk_checks`.

Every type of limit at mesh, venue, account and symbol scope (36 limits), an operator's own check, three venues with two
accounts each, 50 symbols with positions and a working order in every one. Measured is what an order waits for before
its reservation is written: the state of trading, the checks, all limits, and taking and giving back the room.
The requirement is a median under 0.1 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from router import risk_ledger as kinds
from router.risk import RiskOrder, check_order, run_checks
from router.risk_ledger import Claim, Ledger, Limit
from venuemesh.money import use_exact_arithmetic
from venuemesh.risk_board import RiskBoard
from venuemesh.risk_scope import Scope
from venuemesh.v1 import order_pb2, risk_pb2

VENUES = ("hyperliquid", "tradexyz", "lighter")
ACCOUNTS = ("main", "second")
SYMBOLS = tuple(f"A{number}/USDC:USDC" for number in range(50))
SCOPES = (Scope(), Scope(venue=VENUES[0]), Scope(account_id=ACCOUNTS[0]), Scope(symbol=SYMBOLS[0]))
BOUNDS = {kinds.MIN_FREE_MARGIN: Decimal(0)}
WANTED_S = 0.0001


class Own:
    """A check such as an operator would write."""

    name = "own"

    def check(self, order: order_pb2.NewOrder, view: Any) -> str | None:
        """Never refuses; looks at a position."""
        held = view.position((order.venue, order.account_id, order.symbol))
        return "too long" if held > 10**9 else None


def filled_ledger() -> Ledger:
    """A mesh in the middle of its day."""
    ledger = Ledger()
    ledger.set_limits(
        Limit(scope=scope, limit_type=kind, bound=BOUNDS.get(kind, Decimal(10**12)))
        for scope in SCOPES
        for kind in range(1, 10)
    )
    for venue in VENUES:
        for symbol in SYMBOLS:
            ledger.set_mark(venue, symbol, Decimal("61234.5"))
        for account in ACCOUNTS:
            ledger.rebuilt.add((venue, account))
            ledger.free_margin[(venue, account)] = Decimal("1000000000.123456")
            for number, symbol in enumerate(SYMBOLS):
                place = (venue, account, symbol)
                ledger.set_position(place, Decimal("0.12345") * number)
                ledger.set_claim(
                    (venue, account, f"w{number}"), Claim(place=place, is_buy=True, quantity=Decimal("0.01"))
                )
    return ledger


def main() -> int:
    """Measure and say whether the requirement holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--orders", type=int, default=5_000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    count = options.orders
    use_exact_arithmetic()
    ledger, board, checks = filled_ledger(), RiskBoard(), [Own()]
    board.apply(risk_pb2.ScopedTradingState(state=risk_pb2.TRADING_STATE_ACTIVE, version=1))
    accounts = [(venue, account) for venue in VENUES for account in ACCOUNTS]
    order = order_pb2.NewOrder(
        venue=VENUES[0], account_id=ACCOUNTS[0], symbol=SYMBOLS[0], side=order_pb2.SIDE_BUY, quantity="0.01"
    )
    spent: list[float] = []
    for number in range(count):
        wanted = RiskOrder(
            venue=VENUES[0],
            account_id=ACCOUNTS[0],
            symbol=SYMBOLS[0],
            client_order_id=f"k{number}",
            is_buy=number % 2 == 0,
            quantity=Decimal("0.01"),
            price=Decimal("61200.5"),
            leverage=Decimal(40),
        )
        began_s = time.perf_counter()
        refusal = board.refusal(*wanted.place, reduce_only=False) or run_checks(checks, order, ledger)
        claim = check_order(ledger, wanted, accounts)
        ledger.set_claim(wanted.key, claim)
        ledger.set_claim(wanted.key, None)
        spent.append(time.perf_counter() - began_s)
        assert refusal is None
    median_s, p99_s = statistics.median(spent), statistics.quantiles(spent, n=100)[98]
    covering = len(ledger.covering((VENUES[0], ACCOUNTS[0], SYMBOLS[0])))
    print(f"{count} orders, {covering} limits each: median {median_s * 1e6:.1f} us, p99 {p99_s * 1e6:.1f} us")
    if options.json:
        options.json.write_text(json.dumps({"median_us": median_s * 1e6, "p99_us": p99_s * 1e6, "limits": covering}))
    print(f"median under {WANTED_S * 1e6:.0f} us: {'yes' if median_s < WANTED_S else 'NO'}")
    return 0 if median_s < WANTED_S else 1


if __name__ == "__main__":
    sys.exit(main())
