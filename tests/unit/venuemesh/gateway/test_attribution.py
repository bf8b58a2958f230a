"""Whose a request is follows the tasks that make it (property 9)."""

from __future__ import annotations

import asyncio
import inspect
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import ManualClock
from tests.fakes_venue import MAIN, FakeVenue
from venuemesh.gateway.attribution import ATTRIBUTED, About, about, attributed, current
from venuemesh.gateway.venue import CollateralTransfer, Reservation, Venue


def test_every_method_of_the_port_that_names_an_account_is_attributed() -> None:
    """P9: a new method of the port must be looked at here."""
    named = set()
    for name, method in inspect.getmembers(Venue, inspect.iscoroutinefunction):
        parameters = list(inspect.signature(method).parameters)[1:2]
        if parameters and parameters[0] in ("account_id", "ticket", "tickets", "target", "targets", "transfer"):
            named.add(name)
    assert named == set(ATTRIBUTED)


async def test_tasks_that_a_method_starts_know_what_it_is_about_and_others_do_not() -> None:
    """P9: two calls at once are never mixed up."""
    seen: dict[str, list[About]] = {}

    class Asking(FakeVenue):
        async def fetch_fills(self, account_id: str, since_ns: int) -> Any:
            async def ask() -> None:
                await asyncio.sleep(0)
                seen.setdefault(account_id, []).append(current())

            await asyncio.gather(ask(), ask())
            return []

    venue = attributed(Asking(ManualClock(), accounts=("a", "b")))
    await asyncio.gather(venue.fetch_fills("a", 0), venue.fetch_fills("b", 0))
    assert seen == {name: [About(account_id=name)] * 2 for name in ("a", "b")}
    assert current() == About()


def test_subject_of_a_call_names_its_account() -> None:
    """P9: a transfer has none; what names no account is a fault of ours."""
    reservation = Reservation(nonce=1, expires_ns=0)
    transfer = CollateralTransfer(
        account_id=MAIN, asset="USDC", amount=Decimal(1), from_section="", to_section="spot", reservation=reservation
    )
    assert about(transfer) == About(account_id=MAIN)
    assert about([]) == About()
    with pytest.raises(TypeError, match="no account in int"):
        about(7)


async def test_what_is_not_attributed_passes_through_unchanged() -> None:
    """Attributes, plain methods and errors are the venue's own."""
    fake = FakeVenue(ManualClock())
    venue = attributed(fake)
    assert venue.name == fake.name
    assert venue.capabilities is fake.capabilities
    assert venue.reserve(MAIN, not_after_ns=5).expires_ns == 5
    with pytest.raises(AttributeError, match="nothing_like_it"):
        venue.nothing_like_it  # type: ignore[attr-defined]  # noqa: B018
