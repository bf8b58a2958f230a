"""Orders at the venue: place, cancel, amend, look up. It builds actions and reads answers, and decides nothing.

Source: venue reference sections 2.2 (orderStatus, historicalOrders, twapHistory) and 3.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from hypercore.account_messages import OrderWithStatus
from hypercore.action_types import AnyAction
from hypercore.action_types import Grouping as WireGrouping
from hypercore.actions import build_batch_modify, build_cancel, build_cancel_by_cloid, build_order_action
from hypercore.adapter import answers, twaps
from hypercore.adapter.normalizer import latest_order
from hypercore.adapter.views import AccountView, Directory
from hypercore.exchange_codec import ExchangeAnswer
from hypercore.rest import HyperCoreRest
from venuemesh.errors import AccountNotFound, MeshError, NotSupported
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import (
    Amended,
    CancelAnswer,
    Grouping,
    OrderTarget,
    OrderTicket,
    Placed,
    Refused,
    Reservation,
    Unclear,
    VenueOrder,
)
from venuemesh.v1 import instrument_pb2

GROUPINGS: Final = {
    Grouping.NONE: WireGrouping.NA,
    Grouping.BRACKET: WireGrouping.NORMAL_TPSL,
    Grouping.POSITION: WireGrouping.POSITION_TPSL,
}


class Send(Protocol):
    """Signs and sends one action, once; `hypercore.adapter.sender.Sender` is one."""

    def sign_ahead(self, account_id: str, action: AnyAction, reservation: Reservation) -> None:
        """Have the signature ready for a call with the same arguments."""

    async def __call__(
        self,
        account_id: str,
        action: AnyAction,
        reservation: Reservation | None,
        correlation_id: str,
        sent: Callable[[], None] = ...,
    ) -> ExchangeAnswer:
        """The venue's answer; `sent` is called once the request is written."""


class OrderActions:
    """The order methods of the port, for all accounts of a gateway."""

    def __init__(
        self, *, rest: HyperCoreRest, directory: Directory, views: Mapping[str, AccountView], send: Send
    ) -> None:
        self._rest = rest
        self._directory = directory
        self._views = views
        self._send = send

    def sign_ahead(self, ticket: OrderTicket) -> None:
        """Sign what `place_order` of this ticket will send."""
        self._send.sign_ahead(ticket.account_id, self._placing(ticket), ticket.reservation)

    async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
        """Place one order, or start one TWAP."""
        action = self._placing(ticket)
        answer = await self._send(ticket.account_id, action, ticket.reservation, ticket.order_id, sent)
        return answers.read_placed(answer, ticket) if ticket.twap is None else answers.read_twap_started(answer)

    def _placing(self, ticket: OrderTicket) -> AnyAction:
        asset_id = self._asset_id(ticket.instrument)
        if ticket.twap is not None:
            return twaps.build_start(ticket, asset_id)
        return build_order_action([answers.build_order_wire(ticket, asset_id)])

    async def place_orders(
        self, tickets: Sequence[OrderTicket], sent: Callable[[], None], grouping: Grouping
    ) -> Sequence[Placed | Refused | Unclear]:
        """Place orders of one account in one action, under the reservation of the first."""
        wires = [answers.build_order_wire(ticket, self._asset_id(ticket.instrument)) for ticket in tickets]
        action, first = build_order_action(wires, grouping=GROUPINGS[grouping]), tickets[0]
        answer = await self._send(first.account_id, action, first.reservation, first.order_id, sent)
        return answers.read_all_placed(answer, tickets)

    async def cancel_order(self, target: OrderTarget) -> CancelAnswer | Refused:
        """Cancel by the venue's id, else by cloid. It carries no expiry: a late cancel is still wanted."""
        if target.twap is not None:
            return await self._cancel_twap(target)
        answer = await self._send(
            target.account_id, self._cancels([target], bool(target.venue_order_id)), None, target.venue_client_order_id
        )
        return answers.read_canceled(answer)

    async def cancel_orders(self, targets: Sequence[OrderTarget]) -> Sequence[CancelAnswer | Refused | Unclear]:
        """One action for all orders whose id is known, one for those known by cloid alone, one for each TWAP."""
        found: dict[int, CancelAnswer | Refused | Unclear] = {}

        async def together(places: Sequence[int], by_id: bool) -> None:
            if not places:
                return
            chosen = [targets[place] for place in places]
            account_id, name = chosen[0].account_id, chosen[0].venue_client_order_id
            said: Sequence[CancelAnswer | Refused | Unclear]
            try:
                said = answers.read_all_canceled(
                    await self._send(account_id, self._cancels(chosen, by_id), None, name), len(chosen)
                )
            except MeshError as error:
                if len(places) == len(targets):
                    raise
                # What became of the other actions is known and must not be lost with this one.
                said = [Unclear(cause=error.message)] * len(chosen)
            found.update(zip(places, said, strict=True))

        async def alone(place: int) -> None:
            try:
                found[place] = await self._cancel_twap(targets[place])
            except MeshError as error:
                found[place] = Unclear(cause=error.message)

        orders = [place for place, target in enumerate(targets) if target.twap is None]
        known = [place for place in orders if targets[place].venue_order_id]
        unknown = [place for place in orders if not targets[place].venue_order_id]
        apart = [alone(place) for place, target in enumerate(targets) if target.twap is not None]
        await asyncio.gather(together(known, True), together(unknown, False), *apart)
        return [found[place] for place in range(len(targets))]

    def _cancels(self, targets: Sequence[OrderTarget], by_id: bool) -> AnyAction:
        if by_id:
            ids = [(self._asset_id(target.instrument), int(target.venue_order_id or 0)) for target in targets]
            return build_cancel(ids)
        return build_cancel_by_cloid(
            (self._asset_id(target.instrument), target.venue_client_order_id) for target in targets
        )

    async def _cancel_twap(self, target: OrderTarget) -> CancelAnswer | Refused:
        """Stop a TWAP; one whose id is not known is looked for first."""
        name = target.venue_order_id
        if not name:
            view = await self.fetch_order(target)
            if view is None:
                return CancelAnswer.GONE
            name = view.venue_order_id
        action = twaps.build_stop(name, self._asset_id(target.instrument))
        return answers.read_canceled(await self._send(target.account_id, action, None, target.venue_client_order_id))

    async def amend_order(self, target: OrderTarget, ticket: OrderTicket) -> Amended | Refused:
        """Cancel and place anew in one action: a new oid, the same cloid, `ticket.quantity` open in the book."""
        if ticket.twap is not None:
            raise NotSupported("a running TWAP cannot be changed")
        order = answers.build_order_wire(ticket, self._asset_id(ticket.instrument))
        known = int(target.venue_order_id) if target.venue_order_id else target.venue_client_order_id
        action = build_batch_modify([(known, order)])
        answer = await self._send(ticket.account_id, action, ticket.reservation, ticket.order_id)
        return answers.read_amended(answer, ticket)

    async def fetch_order(self, target: OrderTarget) -> VenueOrder | None:
        """Ask by both ids, then look through the latest 2000 rows of history; TWAPs have a history of their own."""
        return (await self.fetch_orders([target]))[0]

    async def fetch_orders(self, targets: Sequence[OrderTarget]) -> Sequence[VenueOrder | None]:
        """The same for several orders of one account; each history is read once at most."""
        view = self._view(targets[0].account_id)
        rows = {place: await self._statuses(view, each) for place, each in enumerate(targets) if each.twap is None}
        if not all(rows.values()):
            latest = await self._rest.fetch_historical_orders(view.user)
            for place in [place for place, found in rows.items() if not found]:
                ids = _ids_of(targets[place])
                rows[place] = [row for row in latest if row.order.oid in ids or row.order.cloid in ids]
        history = await self._rest.fetch_twap_history(view.user) if len(rows) < len(targets) else ()
        found: list[VenueOrder | None] = []
        for place, target in enumerate(targets):
            if target.twap is not None:
                with readable("a TWAP"):
                    found.append(twaps.find_twap(history, target, self._directory.universe))
                continue
            seen = (view.reported_order(row) for row in rows[place])
            found.append(latest_order(order for order in seen if order is not None))
        return found

    async def _statuses(self, view: AccountView, target: OrderTarget) -> list[OrderWithStatus]:
        """What the venue says of an order by each id of it."""
        answers = [await self._rest.fetch_order_status(view.user, name) for name in _ids_of(target)]
        return [row for row in answers if row is not None]

    def _asset_id(self, instrument: instrument_pb2.Instrument) -> int:
        return self._directory.universe.by_coin(instrument.venue_symbol).asset_id

    def _view(self, account_id: str) -> AccountView:
        view = self._views.get(account_id)
        if view is None:
            raise AccountNotFound(f"account_id: {account_id!r} is no account of this gateway", field="account_id")
        return view


def _ids_of(target: OrderTarget) -> list[int | str]:
    """Every id an order can be asked for by; the venue's own first."""
    ours: list[int | str] = [target.venue_client_order_id]
    return [int(target.venue_order_id), *ours] if target.venue_order_id else ours
