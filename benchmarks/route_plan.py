"""How long a decision takes: three venues with books of twenty levels, one venue chosen or a split over all.

    python -m benchmarks.route_plan

Prints the median and the 99th percentile of each, and the parts per order.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from decimal import Decimal
from pathlib import Path

from router.assess import assess
from router.selection import Decision, Wish, decide
from router.terms import OrderTerms
from router.views import BookView, FeeRates, Funding, Level, Rules, VenueView
from venuemesh.money import use_exact_arithmetic
from venuemesh.v1 import instrument_pb2, order_pb2, routing_pb2, venue_pb2

SYMBOL = "BTC/USDC:USDC"
STEPS = ("0.00001", "0.0001", "0.001")
RULES = Rules(max_book_age_s=5)


def terms() -> OrderTerms:
    return OrderTerms(
        account_id="main",
        symbol=SYMBOL,
        is_buy=True,
        order_type=order_pb2.ORDER_TYPE_MARKET,
        quantity=Decimal("12.345"),
        price=None,
        time_in_force=order_pb2.TIME_IN_FORCE_IOC,
        instructions=frozenset(),
        max_slippage_bps=None,
    )


def venue(place: int, draw: random.Random) -> VenueView:
    """A venue with its own step, fee, funding and twenty random levels a side."""

    def side(sign: int) -> tuple[Level, ...]:
        prices = sorted({60_000 + sign * draw.randint(1, 400) for _ in range(60)}, reverse=sign < 0)[:20]
        return tuple(Level(Decimal(price), Decimal(draw.randint(10_000, 200_000)).scaleb(-5)) for price in prices)

    support = venue_pb2.OrderTypeSupport(order_type=order_pb2.ORDER_TYPE_MARKET)
    instrument = instrument_pb2.Instrument(
        symbol=SYMBOL,
        state=instrument_pb2.INSTRUMENT_STATE_TRADING,
        price_rule=instrument_pb2.PriceRule(tick_size="1"),
        quantity_rule=instrument_pb2.QuantityRule(step_size=STEPS[place], min_notional="10"),
    )
    return VenueView(
        venue=f"venue-{place}",
        account_ids=frozenset({"main"}),
        capabilities=venue_pb2.VenueCapabilities(order_types=[support]),
        instrument=instrument,
        book=BookView(bids=side(-1), asks=side(1), age_s=0.1),
        fees=FeeRates(maker=Decimal("0.0001"), taker=Decimal(draw.randint(0, 60)).scaleb(-5)),
        funding=Funding(rate=Decimal(draw.randint(-20, 20)).scaleb(-6), interval_s=3_600),
    )


def measure(name: str, wish: Wish, rounds: int) -> dict[str, float]:
    draw = random.Random(7)  # noqa: S311 - the same books in every run
    snapshots = [[venue(place, draw) for place in range(3)] for _ in range(rounds)]
    order, times, parts = terms(), [], 0
    for views in snapshots:
        began = time.perf_counter_ns()
        decision: Decision = decide(wish, order, [assess(order, view, RULES) for view in views])
        times.append((time.perf_counter_ns() - began) / 1e6)
        assert sum(part.quantity for part in decision.parts) == order.quantity
        parts += len(decision.parts)
    last = sorted(times)[int(len(times) * 0.99)]
    print(f"{name:<24} median {statistics.median(times):.3f} ms   p99 {last:.3f} ms   {parts / rounds:.2f} parts")
    return {"median_ms": statistics.median(times), "p99_ms": last, "parts": parts / rounds}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    found = {}
    use_exact_arithmetic()
    strategy = routing_pb2.ROUTING_STRATEGY_ALL_IN_COST
    for name, mode in (
        ("one venue", routing_pb2.SPLIT_MODE_NEVER),
        ("split when cheaper", routing_pb2.SPLIT_MODE_WHEN_CHEAPER),
        ("split by depth", routing_pb2.SPLIT_MODE_ALWAYS),
    ):
        found[name] = measure(name, Wish(strategy=strategy, split_mode=mode), options.rounds)
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
