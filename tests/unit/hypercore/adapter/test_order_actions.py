"""Batches of cancels as actions: what goes together, and what one failure says of the rest."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from hypercore.action_types import AnyAction, CancelAction, CancelByCloidAction, TwapCancelAction
from hypercore.adapter.order_actions import OrderActions
from hypercore.exchange_codec import ExchangeAnswer, parse_exchange_answer
from tests.unit.hypercore.adapter.support import answer, ticket, universe
from venuemesh.errors import NotSupported, OutcomeUnknown
from venuemesh.gateway.venue import (
    CancelAnswer,
    Grouping,
    OrderTarget,
    Placed,
    Reservation,
    TwapTarget,
    TwapTerms,
    Unclear,
)
from venuemesh.v1 import instrument_pb2, order_pb2

ETH = instrument_pb2.Instrument(symbol="ETH/USDC:USDC", venue_symbol="ETH")
TERMS = TwapTerms(minutes=30, randomize=False)


class Directory:
    universe = universe()


class Wire:
    """Answers each kind of action as told, and keeps what was sent."""

    def __init__(self, **replies: Any) -> None:
        self.replies = replies
        self.sent: list[tuple[AnyAction, Reservation | None]] = []
        self.ahead: list[tuple[AnyAction, Reservation | None]] = []

    def sign_ahead(self, account_id: str, action: AnyAction, reservation: Reservation) -> None:
        self.ahead.append((action, reservation))

    async def __call__(
        self,
        account_id: str,
        action: AnyAction,
        reservation: Reservation | None,
        correlation_id: str,
        sent: Callable[[], None] = lambda: None,
    ) -> ExchangeAnswer:
        self.sent.append((action, reservation))
        reply = self.replies[type(action).__name__]
        if isinstance(reply, Exception):
            raise reply
        found: ExchangeAnswer = reply
        return found


def actions(wire: Wire) -> OrderActions:
    anything: Any = None
    directory: Any = Directory()
    return OrderActions(rest=anything, directory=directory, views={}, send=wire)


def target(number: int, *, known: bool = True, twap: bool = False) -> OrderTarget:
    schedule = TwapTarget(
        side=order_pb2.SIDE_BUY,
        quantity=Decimal(1),
        reduce_only=False,
        terms=TERMS,
        not_before_ns=0,
        not_after_ns=1,
        others=frozenset(),
        rivals=False,
    )
    name = f"twap:{number}" if twap else str(number)
    return OrderTarget(
        account_id="main",
        instrument=ETH,
        venue_client_order_id=f"0x{number:032x}",
        venue_order_id=name if known else None,
        twap=schedule if twap else None,
    )


def twap_answer(status: Any) -> ExchangeAnswer:
    body = {"status": "ok", "response": {"type": "twapCancel", "data": {"status": status}}}
    return parse_exchange_answer(msgspec.json.encode(body))


GONE = {"error": "Order was never placed, already canceled, or filled. asset=1"}
MIXED = [target(1), target(2, known=False), target(3, twap=True), target(4)]


async def test_cancels_go_by_id_where_it_is_known_else_by_cloid_and_answer_in_their_order() -> None:
    """One action of each kind; none carries an expiry, a late cancel is still wanted."""
    wire = Wire(
        CancelAction=answer("success", GONE),
        CancelByCloidAction=answer("success"),
        TwapCancelAction=twap_answer("success"),
    )
    said = await actions(wire).cancel_orders(MIXED)
    assert said == [CancelAnswer.CANCELED, CancelAnswer.CANCELED, CancelAnswer.CANCELED, CancelAnswer.GONE]
    assert {type(action): action.length() for action, _ in wire.sent} == {
        CancelAction: 2,
        CancelByCloidAction: 1,
        TwapCancelAction: 1,
    }
    assert {reservation for _, reservation in wire.sent} == {None}


@pytest.mark.parametrize("lost", ["CancelAction", "CancelByCloidAction", "TwapCancelAction"])
async def test_lost_answer_to_one_action_does_not_hide_what_the_others_said(lost: str) -> None:
    """Its own orders are unclear, and only they."""
    replies: dict[str, Any] = {
        "CancelAction": answer("success", "success"),
        "CancelByCloidAction": answer("success"),
        "TwapCancelAction": twap_answer("success"),
    }
    said = await actions(Wire(**(replies | {lost: OutcomeUnknown("cut")}))).cancel_orders(MIXED)
    unclear = {"CancelAction": [0, 3], "CancelByCloidAction": [1], "TwapCancelAction": [2]}[lost]
    assert [place for place, one in enumerate(said) if isinstance(one, Unclear)] == unclear


async def test_lost_answer_to_the_only_action_is_the_failure_of_the_request() -> None:
    """The frame tries again, as it may with cancels."""
    with pytest.raises(OutcomeUnknown):
        await actions(Wire(CancelAction=OutcomeUnknown("cut"))).cancel_orders([target(1), target(4)])


@pytest.mark.parametrize(
    ("grouping", "word"),
    [(Grouping.NONE, "na"), (Grouping.BRACKET, "normalTpsl"), (Grouping.POSITION, "positionTpsl")],
)
async def test_orders_of_one_action_share_its_grouping_and_reservation(grouping: Grouping, word: str) -> None:
    """The journalled nonce and expiry are those sent."""
    wire = Wire(OrderAction=answer({"resting": {"oid": 1}}, "waitingForFill"))
    tickets = [ticket(), ticket(side=order_pb2.SIDE_SELL)]
    said = await actions(wire).place_orders(tickets, lambda: None, grouping)
    assert [type(one) for one in said] == [Placed, Placed]
    ((action, reservation),) = wire.sent
    assert msgspec.to_builtins(action)["grouping"] == word
    assert reservation == tickets[0].reservation


async def test_running_twap_is_not_amended() -> None:
    """The venue has no such action."""
    wire = Wire()
    with pytest.raises(NotSupported):
        await actions(wire).amend_order(target(3, twap=True), ticket(order_type=order_pb2.ORDER_TYPE_TWAP, twap=TERMS))
    assert wire.sent == []
