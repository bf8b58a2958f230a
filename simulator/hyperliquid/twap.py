"""TWAP actions and rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from simulator.engine.events import Fill, TwapChanged, TwapRequest, TwapSnapshot, TwapState
from simulator.engine.twaps import NOTIONAL_PER_MINUTE
from simulator.engine.values import Outcome, Reason, Side
from simulator.hyperliquid import account_info, wire
from simulator.hyperliquid.decimals import money, parse, text
from simulator.hyperliquid.rows import SIDES, refusal_text
from simulator.hyperliquid.universe import Dex
from simulator.hyperliquid.venue import Venue

GONE = "TWAP was never placed, already canceled, or filled."
MAX_ROWS = 2000


def start(venue: Venue, account: str, action: wire.TwapOrder, now_ms: int) -> dict[str, Any]:
    """`twapOrder`: the id of a running TWAP, or an error inside the status."""
    terms = action.twap
    quantity = parse(terms.s)
    request = TwapRequest(
        instrument=venue.universe.coins.get(terms.a, f"asset:{terms.a}"),
        side=Side.BUY if terms.b else Side.SELL,
        quantity=Decimal(-1) if quantity is None else quantity,
        minutes=terms.m,
        reduce_only=terms.r,
        randomise=terms.t,
    )
    found = venue.upkeep.twaps.start(account, request, now_ms)
    if isinstance(found, Reason):
        return _answer("twapOrder", {"error": _refusal(found, terms)})
    return _answer("twapOrder", {"running": {"twapId": found.twap_id}})


def cancel(venue: Venue, account: str, action: wire.TwapCancel, now_ms: int) -> dict[str, Any]:
    """`twapCancel`."""
    coin = venue.universe.coins.get(action.a, "")
    done = venue.upkeep.twaps.cancel(account, coin, action.t, now_ms)
    return _answer("twapCancel", "success" if done else {"error": GONE})


def _answer(kind: str, status: Any) -> dict[str, Any]:
    return {"type": kind, "data": {"status": status}}


def _refusal(reason: Reason, terms: wire.TwapWire) -> str:
    match reason:
        case Reason.TWAP_TOO_SMALL:
            least = NOTIONAL_PER_MINUTE * terms.m
            return f"TWAP order value too small. Min is ${least}, which is ${NOTIONAL_PER_MINUTE} per minute."
        case Reason.TWAP_DURATION:
            return f"Invalid TWAP duration: {terms.m} min(s)"
        case Reason.REDUCE_ONLY_WOULD_INCREASE:
            return "Reduce-only TWAP order would increase position."
        case _:
            return refusal_text(Outcome(refusal=reason), terms.a, spot_quote=None)


def state_row(twap: TwapSnapshot) -> dict[str, Any]:
    """State of a TWAP as all answers carry it."""
    return {
        "coin": twap.request.instrument,
        "user": twap.account,
        "side": SIDES[twap.request.side],
        "sz": text(twap.request.quantity),
        "executedSz": text(twap.executed),
        "executedNtl": money(twap.executed_notional),
        "minutes": twap.request.minutes,
        "reduceOnly": twap.request.reduce_only,
        "randomize": twap.request.randomise,
        "timestamp": twap.created_ms,
        "trigger": None,
        "stopPx": None,
    }


def history_row(venue: Venue, event: TwapChanged) -> dict[str, Any]:
    """Row of `twapHistory`: when a TWAP began or ended, in seconds."""
    twap = event.twap
    status: dict[str, Any] = {"status": twap.state.value}
    if twap.state is TwapState.ERROR and twap.error is not None:
        asset = venue.universe.asset_ids[twap.request.instrument]
        description = refusal_text(Outcome(refusal=twap.error), asset, spot_quote=None)
        status["description"] = description.removesuffix(f" asset={asset}")
    return {"time": event.time_ms // 1000, "state": state_row(twap), "status": status, "twapId": twap.twap_id}


def history(venue: Venue, user: str) -> list[dict[str, Any]]:
    """`twapHistory`, newest first."""
    return [history_row(venue, event) for event in reversed(venue.upkeep.twaps.history(user))]


def slice_rows(venue: Venue, fills: Iterable[Fill]) -> list[dict[str, Any]]:
    """Rows of slice fills among `fills`, in their order."""
    return [
        {"fill": account_info.fill(venue, item), "twapId": item.twap_id} for item in fills if item.twap_id is not None
    ]


def slice_fills(venue: Venue, user: str) -> list[dict[str, Any]]:
    """`userTwapSliceFills`, newest first."""
    return slice_rows(venue, reversed(venue.engine.fills(user)))[:MAX_ROWS]


def slice_fills_by_time(venue: Venue, user: str, start_ms: int, end_ms: int | None) -> list[dict[str, Any]]:
    """`userTwapSliceFillsByTime`: both ends inclusive, oldest first."""
    fills = (f for f in venue.engine.fills(user) if f.time_ms >= start_ms and (end_ms is None or f.time_ms <= end_ms))
    return slice_rows(venue, fills)[:MAX_ROWS]


def states(venue: Venue, user: str, dex: Dex) -> list[list[Any]]:
    """Running TWAPs of a dex as (id, state) pairs; the main dex has the spot ones too."""
    return [
        [twap.twap_id, state_row(twap)]
        for twap in venue.upkeep.twaps.running(user)
        if venue.engine.markets[twap.request.instrument].instrument.pool == dex.name
    ]
