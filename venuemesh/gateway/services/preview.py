"""PreviewOrder: everything that would refuse an order, not only the first thing.

The rules are those of a submit and stop at their first refusal. Each refusal is noted, the field at fault is mended in
a copy, and the rules are asked again; what depends on a mended field is not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from venuemesh.errors import MeshError
from venuemesh.gateway import rules
from venuemesh.gateway.orders import reason_number
from venuemesh.gateway.rules import CheckedOrder
from venuemesh.gateway.services.parts import GatewayParts
from venuemesh.money import EXACT, format_decimal, to_wire
from venuemesh.v1 import instrument_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

T = TypeVar("T")

MAX_ROUNDS = 24
PLACEHOLDER = "preview"
ONE = "1"
TWAP_S = 1_800


async def preview_order(parts: GatewayParts, order: pb.NewOrder) -> wire.PreviewOrderResponse:
    """All refusals a submit of `order` would meet now, and what it would cost."""
    preview = _Preview(parts, order)
    await preview.judge()
    return preview.response


class _Preview:
    def __init__(self, parts: GatewayParts, order: pb.NewOrder) -> None:
        self.response = wire.PreviewOrderResponse()
        self._parts = parts
        self._order = pb.NewOrder()
        self._order.CopyFrom(order)
        self._order.client_order_id = order.client_order_id or PLACEHOLDER
        self._mended: set[str] = set()

    async def judge(self) -> None:
        desk = self._parts.desk
        self._ask(lambda: desk.check_venue(self._order.venue, "order.venue"))
        checked = self._ask_all(lambda: rules.check_fields(self._order))
        if "order.account_id" not in self._mended:
            account = self._ask(lambda: desk.account(self._order.account_id, "order.account_id"))
            if account is not None:
                self._ask(lambda: desk.check_ready(account, self._order))
        if "order.order_type" not in self._mended:
            self._ask_all(lambda: rules.check_capabilities(self._order, self._parts.venue.capabilities))
        if checked is None or "order.symbol" in self._mended:
            return
        instruments, venue = self._parts.instruments, self._parts.venue.name
        instrument = self._ask(lambda: instruments.get(self._order.symbol, venue, field="order.symbol"))
        if instrument is not None:
            await self._judge_numbers(checked, instrument)

    async def _judge_numbers(self, checked: CheckedOrder, instrument: instrument_pb2.Instrument) -> None:
        rule = instrument.price_rule
        price = None if "order.price" in self._mended else checked.price
        self._ask(lambda: rules.check_price(price, rule, field="order.price"))
        if not self._mended & {"order.trigger", "order.trigger.price"}:
            self._ask(lambda: rules.check_price(checked.trigger_price, rule, field="order.trigger.price"))
        known_quantity = "order.quantity" not in self._mended
        quantity = checked.quantity if known_quantity else Decimal(instrument.quantity_rule.step_size)
        before = len(self.response.rejects)
        self._ask(lambda: self._check_quantity(quantity, instrument, None))
        reference = price if checked.price is not None else await self._worst_price(checked, instrument)
        if reference is None or not known_quantity:
            return
        if len(self.response.rejects) == before:
            self._ask(lambda: self._check_quantity(quantity, instrument, reference))
        self._estimate(EXACT.multiply(quantity, reference), instrument)

    def _check_quantity(
        self, quantity: Decimal, instrument: instrument_pb2.Instrument, reference: Decimal | None
    ) -> None:
        only_quantity = CheckedOrder(quantity=quantity, price=None, trigger_price=None)
        reduce_only = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in self._order.instructions
        rules.check_instrument(only_quantity, instrument, reduce_only=reduce_only, reference_price=reference)

    async def _worst_price(self, checked: CheckedOrder, instrument: instrument_pb2.Instrument) -> Decimal | None:
        """The price an order without a limit is judged by: beyond its trigger, or the best one now."""
        if self._mended & {"order.side", "order.order_type", "order.trigger", "order.trigger.price"}:
            return None
        bounded = self._parts.desk.tickets.bounded_price(self._order, checked, instrument)
        if bounded is not None:
            return bounded
        try:
            return await self._parts.books.best_opposite(self._order.symbol, buy=self._order.side == pb.SIDE_BUY)
        except MeshError as error:
            self._note(error)
            return None

    def _estimate(self, notional: Decimal, instrument: instrument_pb2.Instrument) -> None:
        self.response.estimated_notional = format_decimal(to_wire(notional))
        if instrument.HasField("taker_fee_rate"):
            fee = EXACT.multiply(to_wire(notional), Decimal(instrument.taker_fee_rate))
            self.response.estimated_fee = format_decimal(to_wire(fee))

    def _ask(self, check: Callable[[], T]) -> T | None:
        try:
            return check()
        except MeshError as error:
            self._note(error)
            return None

    def _ask_all(self, check: Callable[[], T]) -> T | None:
        """Ask until the rules are content, mending what they refuse; None when something cannot be mended."""
        for _ in range(MAX_ROUNDS):
            try:
                return check()
            except MeshError as error:
                self._note(error)
                if not self._mend(error.field or ""):
                    return None
        return None

    def _note(self, error: MeshError) -> None:
        self.response.rejects.append(pb.Reject(reason=reason_number(error.reason), message=error.message))

    def _mend(self, field: str) -> bool:
        """Make the field pass, whatever it held; False when it was mended before or cannot be."""
        mend = _MENDS.get(field)
        if mend is None or field in self._mended:
            return False
        self._mended.add(field)
        mend(self._order)
        return True


def _mend_type(order: pb.NewOrder) -> None:
    order.order_type = pb.ORDER_TYPE_LIMIT if order.HasField("price") else pb.ORDER_TYPE_MARKET
    order.ClearField("trigger")
    order.ClearField("twap")
    if order.HasField("price"):
        order.ClearField("max_slippage_bps")


def _mend_price(order: pb.NewOrder) -> None:
    if order.order_type in rules.MARKET_TYPES:
        order.ClearField("price")
    else:
        order.price = ONE


def _mend_trigger(order: pb.NewOrder) -> None:
    if order.order_type in rules.TRIGGER_TYPES:
        order.trigger.price = ONE
    else:
        order.ClearField("trigger")


def _mend_time_in_force(order: pb.NewOrder) -> None:
    order.time_in_force = pb.TIME_IN_FORCE_GTC
    order.ClearField("expire_time")


def _mend_expiry(order: pb.NewOrder) -> None:
    if order.time_in_force == pb.TIME_IN_FORCE_GTD:
        order.expire_time.seconds = 1
    else:
        order.ClearField("expire_time")


def _mend_schedule(order: pb.NewOrder) -> None:
    if order.order_type == pb.ORDER_TYPE_TWAP:
        order.twap.duration.seconds, order.twap.duration.nanos = TWAP_S, 0
    else:
        order.ClearField("twap")


def _set(name: str, value: str | int) -> Callable[[pb.NewOrder], None]:
    return lambda order: setattr(order, name, value)


def _clear(name: str) -> Callable[[pb.NewOrder], None]:
    return lambda order: order.ClearField(name)  # type: ignore[arg-type]


_MENDS: dict[str, Callable[[pb.NewOrder], None]] = {
    "order.client_order_id": _set("client_order_id", PLACEHOLDER),
    "order.account_id": _set("account_id", PLACEHOLDER),
    "order.symbol": _set("symbol", PLACEHOLDER),
    "order.side": _set("side", pb.SIDE_BUY),
    "order.order_type": _mend_type,
    "order.quantity": _set("quantity", ONE),
    "order.price": _mend_price,
    "order.trigger": _mend_trigger,
    "order.trigger.price": _mend_trigger,
    "order.time_in_force": _mend_time_in_force,
    "order.expire_time": _mend_expiry,
    "order.instructions": _clear("instructions"),
    "order.twap": _mend_schedule,
    "order.twap.duration": _mend_schedule,
    "order.max_slippage_bps": _clear("max_slippage_bps"),
    "order.tags": _clear("tags"),
    "order.correlation_id": _clear("correlation_id"),
}
