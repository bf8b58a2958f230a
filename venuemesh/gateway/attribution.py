"""Whose and what order's a request to the venue is: carried along the tasks that make it.

An adapter knows endpoints and wire ids; the frame knows accounts and orders. `attributed` wraps the venue port so that
whatever an adapter sends while one of its methods runs can be told apart by account and order, without its knowing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, cast

from venuemesh.gateway.venue import CollateralTransfer, OrderTarget, OrderTicket, Venue

ATTRIBUTED: Final = frozenset(
    (
        *("place_order", "place_orders", "cancel_order", "cancel_orders"),
        *("cancel_all", "amend_order"),
        *("fetch_order", "fetch_orders"),
        *("fetch_fills", "fetch_ledger", "fetch_snapshot", "fetch_leverage", "fetch_section_balances"),
        *("set_leverage", "adjust_isolated_margin", "transfer_collateral", "schedule_cancel"),
    )
)
"""Methods of the port whose first argument names an account, by itself or by its orders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a request is about; empty where nobody knows.

    Attributes:
        order_ids: ours.
        venue_client_ids: ids we gave the venue for orders of ours.
    """

    account_id: str = ""
    order_ids: tuple[str, ...] = ()
    venue_client_ids: tuple[str, ...] = ()


_about: ContextVar[About] = ContextVar("venuemesh_about", default=About())  # noqa: B039 - About is frozen


def current() -> About:
    """What the current task asks the venue about."""
    return _about.get()


def about(subject: object) -> About:
    """What a call of the port is about, by its first argument."""
    match subject:
        case OrderTicket():
            return About(account_id=subject.account_id, order_ids=(subject.order_id,))
        case OrderTarget():
            return About(account_id=subject.account_id, venue_client_ids=(subject.venue_client_order_id,))
        case CollateralTransfer():
            return About(account_id=subject.account_id)
        case str():
            return About(account_id=subject)
        case Sequence():
            parts = [about(part) for part in subject]
            return About(
                account_id=parts[0].account_id if parts else "",
                order_ids=tuple(order_id for part in parts for order_id in part.order_ids),
                venue_client_ids=tuple(name for part in parts for name in part.venue_client_ids),
            )
        case _:
            raise TypeError(f"no account in {type(subject).__name__}")


class _Attributed:
    """The port, with every method of `ATTRIBUTED` saying what it is about while it runs."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._venue, name)
        if name not in ATTRIBUTED:
            return found

        async def call(subject: Any, *rest: Any, **options: Any) -> Any:
            token = _about.set(about(subject))
            try:
                return await found(subject, *rest, **options)
            finally:
                _about.reset(token)

        return call


def attributed(venue: Venue) -> Venue:
    """The same venue, whose requests can be told apart."""
    return cast(Venue, _Attributed(venue))
