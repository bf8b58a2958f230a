"""Orders that belong together: checked as a whole, sent in one action, each with a life of its own afterwards.

Only what the venue itself performs is offered: a group that the mesh would have to keep together by hand is no
protection while the mesh is away.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from decimal import Decimal

from venuemesh.errors import ClientOrderIdReused, InvalidOrder, InvalidRequest, MeshError, NotSupported, Reason
from venuemesh.gateway import rules
from venuemesh.gateway.desk import Begun, Desk
from venuemesh.gateway.order_wire import order_list_id_of
from venuemesh.gateway.venue import Grouping
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import venue_pb2

MAX_LIST = 3
"""Entry, take-profit and stop-loss."""

GROUPINGS = {
    wire.CONTINGENCY_TYPE_BRACKET: Grouping.BRACKET,
    wire.CONTINGENCY_TYPE_POSITION: Grouping.POSITION,
}
ENTRIES = frozenset((pb.ORDER_TYPE_LIMIT, pb.ORDER_TYPE_MARKET))


class OrderLists:
    """Submits lists of orders through a desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def submit(self, request: wire.SubmitOrderListRequest) -> wire.SubmitOrderListResponse:
        """Submit all orders of a list or none; a repeat gives the first results.

        Raises:
            InvalidRequest, NotFound, PreconditionFailed, Unavailable: naming the element; nothing was sent.
            NotSupported: the venue does not keep such a group together.
            ClientOrderIdReused: a key belongs to another order, or to another list.
        """
        grouping = self._grouping(request.contingency_type)
        orders = list(request.orders)
        check_list(orders, grouping)
        keys = [order.client_order_id for order in orders]
        list_id = order_list_id_of(self._desk.venue.name, orders[0].account_id, request.contingency_type, keys)
        begun = await self._examine(orders, grouping)
        if grouping is Grouping.BRACKET and self._desk.venue.capabilities.bracket_quantity_is_entrys:
            _check_quantities([one.terms for one in begun])
        if self._is_new(begun, list_id):
            self._desk.start_list(begun, grouping, list_id)
        else:
            self._desk.start(begun)
        results = await asyncio.gather(*(self._desk.result(one, request.ack_level) for one in begun))
        for place, result in enumerate(results):
            if result.order.order_list_id != list_id:
                raise _reused(place, keys[place], result.order.order_id)
        return wire.SubmitOrderListResponse(order_list_id=list_id, results=results)

    def _grouping(self, contingency: wire.ContingencyType.ValueType) -> Grouping:
        grouping = GROUPINGS.get(contingency)
        if grouping is None or self._desk.venue.capabilities.brackets != venue_pb2.PROVISION_NATIVE:
            name = wire.ContingencyType.Name(contingency)
            raise NotSupported(
                f"contingency_type: {name} is not performed by {self._desk.venue.name} itself, and is not imitated",
                field="contingency_type",
                metadata={"contingency_type": name},
            )
        return grouping

    async def _examine(self, orders: Sequence[pb.NewOrder], grouping: Grouping) -> list[Begun]:
        """Every order against every rule; the first refusal in their order is the list's."""
        entries = 1 if grouping is Grouping.BRACKET else 0
        calls = (self._look(order, reduce_only=place >= entries) for place, order in enumerate(orders))
        begun: list[Begun] = []
        for place, found in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
            if isinstance(found, MeshError):
                raise of_element(found, place)
            if isinstance(found, BaseException):
                raise found
            begun.append(found)
        return begun

    async def _look(self, order: pb.NewOrder, *, reduce_only: bool) -> Begun:
        begun = await self._desk.examine(order, reduce_only=reduce_only)
        # A key in the journal alone, used long ago or by a process that died, must not be found when half is written.
        await self._desk.recall(begun)
        return begun

    def _is_new(self, begun: Sequence[Begun], list_id: str) -> bool:
        """Whether no key of the list was ever used.

        Raises:
            ClientOrderIdReused: some were, so that this list can neither be sent nor be a repeat.
        """
        new = [one.draft is not None and not self._desk.is_under_way(one) for one in begun]
        if any(new) and not all(new):
            place = new.index(False)
            answer = begun[place].answer
            raise _reused(place, begun[place].terms.client_order_id, answer.order.order_id if answer else "")
        return all(new)


def check_list(orders: Sequence[pb.NewOrder], grouping: Grouping) -> None:
    """Refuse orders that are no such group.

    Raises:
        InvalidOrder: naming the element and its field.
    """
    _check_common(orders)
    entries = 1 if grouping is Grouping.BRACKET else 0
    if entries:
        _check_entry(orders)
    elif len(orders) > 2:
        raise _refused(Reason.INVALID_ARGUMENT, "orders[2]", "at most one take-profit and one stop-loss")
    kinds: set[bool] = set()
    for place, order in enumerate(orders[entries:], start=entries):
        _check_exit(order, f"orders[{place}]", kinds)
        if entries and order.side == orders[0].side:
            raise _refused(Reason.CONTRADICTORY_FIELDS, f"orders[{place}].side", "must be opposite to the entry's")
        if order.side != orders[entries].side:
            raise _refused(Reason.CONTRADICTORY_FIELDS, f"orders[{place}].side", "exits are all of one side")


def _check_exit(order: pb.NewOrder, name: str, kinds: set[bool]) -> None:
    """A take-profit or a stop-loss, the only one of its kind; `kinds` are those before it."""
    field = f"{name}.order_type"
    if order.order_type not in rules.TRIGGER_TYPES:
        shown = pb.OrderType.Name(order.order_type) if order.order_type in pb.OrderType.values() else "unknown"
        raise _refused(Reason.UNSUPPORTED_ORDER_TYPE, field, f"must be a stop or take-profit type, got {shown}")
    kind = order.order_type in rules.TAKE_PROFITS
    if kind in kinds:
        raise _refused(Reason.CONTRADICTORY_FIELDS, field, "at most one take-profit and one stop-loss")
    kinds.add(kind)


def _check_common(orders: Sequence[pb.NewOrder]) -> None:
    seen: set[str] = set()
    for place, order in enumerate(orders):
        for field in ("account_id", "venue", "symbol"):
            if getattr(order, field) != getattr(orders[0], field):
                raise _refused(
                    Reason.CONTRADICTORY_FIELDS, f"orders[{place}].{field}", f"must be that of orders[0].{field}"
                )
        if order.client_order_id and order.client_order_id in seen:
            raise _refused(
                Reason.CLIENT_ORDER_ID_REUSED,
                f"orders[{place}].client_order_id",
                f"{order.client_order_id[:48]!r} names another order of the list",
            )
        seen.add(order.client_order_id)


def _check_entry(orders: Sequence[pb.NewOrder]) -> None:
    entry = orders[0]
    if len(orders) < 2:
        raise _refused(
            Reason.REQUIRED_FIELD_MISSING, "orders[1]", "a bracket has a take-profit or a stop-loss, or both"
        )
    if entry.order_type not in ENTRIES:
        raise _refused(Reason.UNSUPPORTED_ORDER_TYPE, "orders[0].order_type", "the entry is a limit or a market order")


def _check_quantities(orders: Sequence[pb.NewOrder]) -> None:
    """The exits take the entry's quantity there; one that says otherwise would be sent as another order."""
    entry = orders[0].quantity
    for place, order in enumerate(orders):
        if Decimal(order.quantity) != Decimal(entry):
            rule = f"must be the entry's at this venue, {entry}, got {order.quantity}"
            raise _refused(Reason.CONTRADICTORY_FIELDS, f"orders[{place}].quantity", rule)


def of_element(error: MeshError, place: int) -> MeshError:
    """The refusal of one order as the refusal of its list: the same, naming the element."""
    named = copy.copy(error)
    prefix = f"orders[{place}]"
    if error.field is not None and error.field.startswith("order."):
        named.field = prefix + error.field.removeprefix("order")
    named.message = (
        prefix + error.message.removeprefix("order") if error.message.startswith("order.") else error.message
    )
    if named.message == error.message:
        named.message = f"{prefix}: {error.message}"
    named.args = (named.message,)
    return named


def _refused(reason: Reason, field: str, rule: str) -> InvalidRequest:
    return InvalidOrder(f"{field}: {rule}", reason=reason, field=field)


def _reused(place: int, key: str, order_id: str) -> ClientOrderIdReused:
    field = f"orders[{place}].client_order_id"
    return ClientOrderIdReused(
        f"{field}: {key!r} belongs to order {order_id}, which is no part of this list",
        field=field,
        metadata={"order_id": order_id, "client_order_id": key},
    )
