"""Lighter's books with frames lost, doubled, swapped and broken: a book called fresh is one the venue had."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from simulator.faults import FaultKind
from tests.broker import Broker
from tests.integration.faults.lighter import LighterSide
from tests.integration.faults.sides import COIN, SYMBOL
from tests.integration.faults.world import World, world
from venuemesh.gateway.books import FreshnessChange
from venuemesh.gateway.market_data import FeedKey
from venuemesh.gateway.measures import watch_core
from venuemesh.gateway.venue import Feed
from venuemesh.metrics import Metrics

BOOK = FeedKey(Feed.BOOK, SYMBOL)
BIDS = ("3700", "3701", "3702", "3703")
ASKS = ("3900", "3899", "3898", "3897")
Sides = tuple[tuple[Decimal, ...], tuple[Decimal, ...]]


def shown(here: World) -> Sides | None:
    """Prices of the book as a caller reads it now; None when there is none or it is marked stale."""
    state = here.core.books.book(SYMBOL)
    if state is None or not state.fresh:
        return None
    return tuple(level.price for level in state.book.bids), tuple(level.price for level in state.book.asks)


@pytest.mark.parametrize(
    ("kind", "breaks"),
    [
        (FaultKind.BOOK_GAP, True),
        (FaultKind.DROP_FRAME, True),
        (FaultKind.REORDER_FRAME, True),
        (FaultKind.DUPLICATE_FRAME, True),  # the chain alone is believed
        (FaultKind.DELAY_FRAME, False),
    ],
)
async def test_book_with_faulty_frames_is_right_or_stale_and_right_in_the_end(
    broker: Broker, tmp_path: Path, kind: FaultKind, breaks: bool
) -> None:
    """Never crossed, never a mixture: while frames are missing it says stale, and it is repaired by itself."""
    side = LighterSide()
    async with world(side, broker, tmp_path) as here:
        told: list[FreshnessChange] = []
        here.core.market.hold(BOOK)
        await here.until(lambda: shown(here) is not None)
        here.core.books.listeners.append(told.append)
        metrics = Metrics()
        watch_core(metrics, here.core, here.core.clock)
        here.fault(kind, match=COIN if kind is FaultKind.BOOK_GAP else "order_book", count=2, skip=1, delay_s=0.02)
        true: set[Sides | None] = {None, shown(here)}
        for number in range(len(BIDS)):
            here.offer(bid=BIDS[number], size="1")
            true.add(_sides(number + 1, number))
            here.offer(ask=ASKS[number], size="1")
            true.add(_sides(number + 1, number + 1))
            assert shown(here) in true
        last = _sides(len(BIDS), len(ASKS))

        def repaired() -> bool:
            assert shown(here) in true
            return shown(here) == last

        await here.until(repaired)
        losses = [change for change in told if change.stale_cause and change.feed is Feed.BOOK]
        assert bool(losses) is breaks
        labels = {"venue": "lighter", "feed": "book"}
        counted = metrics.registry.get_sample_value("venuemesh_feeds_gone_stale_total", labels)
        assert (counted or 0) == len(losses)
        side.cancel_house_orders()
        await here.until(lambda: shown(here) == ((), ()))


async def test_book_of_a_cut_link_is_stale_until_the_new_snapshot(broker: Broker, tmp_path: Path) -> None:
    """What changed while nobody listened is in the first book that is called fresh again."""
    side = LighterSide()
    async with world(side, broker, tmp_path) as here:
        here.core.market.hold(BOOK)
        here.offer(bid=BIDS[0])
        await here.until(lambda: shown(here) == _sides(1, 0))
        here.refuse_connections()
        await here.until(lambda: shown(here) is None)
        side.cancel_house_orders()
        here.offer(ask=ASKS[0])
        side.faults.clear()
        seen: list[Sides] = []

        def back() -> bool:
            now = shown(here)
            seen.extend([now] if now is not None else [])
            return bool(seen)

        await here.until(back)
        assert seen == [_sides(0, 1)]


def _sides(bids: int, asks: int) -> Sides:
    return (
        tuple(sorted((Decimal(price) for price in BIDS[:bids]), reverse=True)),
        tuple(sorted(Decimal(price) for price in ASKS[:asks])),
    )
