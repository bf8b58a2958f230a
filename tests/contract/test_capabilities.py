"""The capability record is the truth: what it lists is taken, what it does not list is refused by name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.contract.client import BUY, POST_ONLY, REDUCE_ONLY, SELL, Client, Quote
from tests.contract.refusals import KNOWN_VENUE_REASONS, reason_of, refused
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

TYPES = [value for value in pb.OrderType.values() if value]
TIMES = [value for value in pb.TimeInForce.values() if value]
INSTRUCTIONS: list[tuple[pb.ExecutionInstruction.ValueType, ...]] = [
    (),
    (POST_ONLY,),
    (REDUCE_ONLY,),
    (POST_ONLY, REDUCE_ONLY),
]
STOPS = (pb.ORDER_TYPE_STOP_MARKET, pb.ORDER_TYPE_STOP_LIMIT)
TAKES = (pb.ORDER_TYPE_TAKE_PROFIT_MARKET, pb.ORDER_TYPE_TAKE_PROFIT_LIMIT)
PRICED = (pb.ORDER_TYPE_LIMIT, pb.ORDER_TYPE_STOP_LIMIT, pb.ORDER_TYPE_TAKE_PROFIT_LIMIT)
AT_ONCE = (pb.TIME_IN_FORCE_IOC, pb.TIME_IN_FORCE_FOK)
TWAP_S = 300
TWAP_SLICES = 20
HOUR_S = 3_600
UNSUPPORTED = {
    "UNSUPPORTED_ORDER_TYPE": "order.order_type",
    "UNSUPPORTED_TIME_IN_FORCE": "order.time_in_force",
    "UNSUPPORTED_INSTRUCTION": "order.instructions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One way to ask for an order."""

    order_type: pb.OrderType.ValueType
    time_in_force: pb.TimeInForce.ValueType
    instructions: tuple[pb.ExecutionInstruction.ValueType, ...]

    def __str__(self) -> str:
        words = [pb.OrderType.Name(self.order_type), pb.TimeInForce.Name(self.time_in_force)]
        return "-".join([*words, *(pb.ExecutionInstruction.Name(value) for value in self.instructions)])

    @property
    def contradicts_itself(self) -> bool:
        """Post-only must rest: it excludes what never does."""
        never_rests = self.time_in_force in AT_ONCE or self.order_type == pb.ORDER_TYPE_MARKET
        return POST_ONLY in self.instructions and never_rests


def combinations() -> list[Combination]:
    """All that the contract can say."""
    return [
        Combination(order_type=kind, time_in_force=time, instructions=extra)
        for kind, time, extra in product(TYPES, TIMES, INSTRUCTIONS)
    ]


def twap_duration(client: Client) -> Duration:
    """The shortest the venue takes."""
    record = client.capabilities
    return record.min_twap_duration if record.HasField("min_twap_duration") else Duration(seconds=TWAP_S)


def terms(client: Client, quote: Quote, asked: Combination) -> pb.NewOrder:
    """An order of this kind with all the fields it needs: it rests away from the market or fills small."""
    kind, side = asked.order_type, SELL if REDUCE_ONLY in asked.instructions else BUY
    fields: dict[str, Any] = {
        "order_type": kind,
        "time_in_force": asked.time_in_force,
        "instructions": asked.instructions,
        "side": side,
        "price": None,
    }
    away, beyond = client.away(quote, side), client.away(quote, BUY if side == SELL else SELL)
    if kind == pb.ORDER_TYPE_LIMIT:
        fields["price"] = client.through(quote, side) if asked.time_in_force in AT_ONCE else away
    if kind in STOPS:
        # A stop starts when the price has gone beyond the market in the order's own direction.
        fields["trigger"] = pb.Trigger(price=beyond)
    if kind in TAKES:
        fields["trigger"] = pb.Trigger(price=away)
    if kind in PRICED and kind != pb.ORDER_TYPE_LIMIT:
        fields["price"] = fields["trigger"].price
    if kind == pb.ORDER_TYPE_TWAP:
        fields["twap"] = pb.TwapSchedule(duration=twap_duration(client))
        fields["quantity"] = client.quantity(quote, times=TWAP_SLICES)
    if asked.time_in_force == pb.TIME_IN_FORCE_GTD:
        expire = Timestamp()
        expire.GetCurrentTime()
        fields["expire_time"] = Timestamp(seconds=expire.seconds + HOUR_S)
    return client.new_order(quote, **fields)


async def test_every_listed_combination_is_taken_or_refused_by_the_venue_with_a_known_reason(client: Client) -> None:
    """Nothing of the record is refused by the gateway itself, and no refusal is without a meaning."""
    quote = await client.quote()
    # Something to reduce, enough for all reduce-only orders at once.
    await client.take(quantity=client.quantity(quote, times=8))
    asked = [
        row
        for row in combinations()
        if client.offers(row.order_type, row.time_in_force, *row.instructions) and not row.contradicts_itself
    ]
    assert asked
    answers = await asyncio.gather(*(client.submit(terms(client, quote, row)) for row in asked))
    for row, answer in zip(asked, answers, strict=True):
        known = answer.outcome == wire.SUBMIT_OUTCOME_REJECTED and reason_of(answer.reject) in KNOWN_VENUE_REASONS
        taken = answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert taken or known, (str(row), answer)
        terminal = answer.order.status in (pb.ORDER_STATUS_FILLED, pb.ORDER_STATUS_EXPIRED, pb.ORDER_STATUS_CANCELED)
        assert known or answer.order.working or terminal, (str(row), answer)
    plain = [
        (row, answer)
        for row, answer in zip(asked, answers, strict=True)
        if not row.instructions and row.time_in_force not in AT_ONCE
    ]
    assert all(answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED for _, answer in plain), [
        (str(row), answer) for row, answer in plain if answer.outcome != wire.SUBMIT_OUTCOME_ACKNOWLEDGED
    ]


async def test_every_unlisted_combination_is_refused_by_name_before_it_is_sent(client: Client) -> None:
    """The field at fault is named with what the venue offers instead, and the key stays free."""
    quote = await client.quote()
    asked = [row for row in combinations() if not client.offers(row.order_type, row.time_in_force, *row.instructions)]
    orders = [terms(client, quote, row) for row in asked]
    found = await asyncio.gather(*(refused(client.submit(order)) for order in orders))
    for row, refusal in zip(asked, found, strict=True):
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, (str(row), refusal)
        assert refusal.reason in UNSUPPORTED, (str(row), refusal)
        assert refusal.fields == [UNSUPPORTED[refusal.reason]], (str(row), refusal)
        assert refusal.sent == "no"
        assert "offered" in refusal.metadata
        if client.support(row.order_type) is None:
            assert refusal.reason == "UNSUPPORTED_ORDER_TYPE"
        elif not client.offers(row.order_type, row.time_in_force):
            assert refusal.reason == "UNSUPPORTED_TIME_IN_FORCE"
        else:
            assert refusal.reason == "UNSUPPORTED_INSTRUCTION"
    for order in orders[:3]:
        again = await refused(client.order(order.client_order_id))
        assert again.reason == "ORDER_NOT_FOUND"


async def test_instructions_that_contradict_the_time_in_force_are_refused(client: Client) -> None:
    """Post-only and immediate exclude each other, whatever the venue lists of each."""
    quote = await client.quote()
    asked = [row for row in combinations() if row.contradicts_itself]
    found = await asyncio.gather(*(refused(client.submit(terms(client, quote, row))) for row in asked))
    for row, refusal in zip(asked, found, strict=True):
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, (str(row), refusal)
        assert refusal.reason in {*UNSUPPORTED, "CONTRADICTORY_FIELDS"}, (str(row), refusal)
        assert refusal.sent == "no"


async def test_post_only_order_that_would_take_is_refused_by_the_venue(client: Client) -> None:
    """Not a fill, and not a fault: an answer with its reason."""
    if not client.offers(pb.ORDER_TYPE_LIMIT, pb.TIME_IN_FORCE_GTC, POST_ONLY):
        pytest.skip("the venue lists no post-only")
    quote = await client.quote()
    order = client.new_order(quote, price=client.through(quote), instructions=[POST_ONLY])
    answer = await client.submit(order, wire.ACK_LEVEL_TERMINAL)
    assert answer.order.terminal
    assert Decimal(answer.order.filled_quantity) == 0
    if answer.outcome == wire.SUBMIT_OUTCOME_REJECTED:
        assert reason_of(answer.reject) == "POST_ONLY_WOULD_CROSS"


async def test_reduce_only_order_without_a_position_never_opens_one(client: Client) -> None:
    """The venue refuses it or ends it unfilled."""
    kind, time = (
        (pb.ORDER_TYPE_MARKET, pb.TIME_IN_FORCE_IOC)
        if client.offers(pb.ORDER_TYPE_MARKET, pb.TIME_IN_FORCE_IOC, REDUCE_ONLY)
        else (pb.ORDER_TYPE_LIMIT, pb.TIME_IN_FORCE_IOC)
    )
    if not client.offers(kind, time, REDUCE_ONLY):
        pytest.skip("the venue lists no reduce-only order that takes")
    if await client.position():
        pytest.skip("the account holds a position")
    order = client.taking_order(await client.quote(), instructions=[REDUCE_ONLY])
    answer = await client.submit(order, wire.ACK_LEVEL_TERMINAL)
    assert answer.order.terminal
    assert Decimal(answer.order.filled_quantity) == 0
    assert await client.position() == 0
    if answer.outcome == wire.SUBMIT_OUTCOME_REJECTED:
        assert reason_of(answer.reject) == "REDUCE_ONLY_WOULD_INCREASE"
