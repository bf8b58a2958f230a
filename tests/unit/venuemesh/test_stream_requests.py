"""Messages on a stream of requests: each admitted as the call it stands for, one refused keeps the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes import ManualClock
from venuemesh.errors import AuthenticationFailed, InvalidRequest, MeshError, PermissionDenied, RateLimited
from venuemesh.security.door import Door
from venuemesh.security.grants import READ, SCOPES, TRADE, Grant
from venuemesh.security.requests import rules_of
from venuemesh.serving import safety_methods
from venuemesh.stream_requests import StreamRequests, elements_of
from venuemesh.v1 import options_pb2, order_pb2
from venuemesh.v1 import order_service_pb2 as wire

SERVICE = wire.DESCRIPTOR.services_by_name["OrderService"]
METHODS = {f"/{SERVICE.full_name}/{method.name}": method for method in SERVICE.methods}
STREAM = f"/{SERVICE.full_name}/OpenOrderSession"
CLOCK = ManualClock()
ALL = Grant(subject="x", scopes=frozenset(SCOPES.values()))
Request = wire.OpenOrderSessionRequest


def door(name: str, request: Any) -> Door:
    scope = METHODS[name].GetOptions().Extensions[options_pb2.policy].scope
    none: Any = None
    return Door(name, scope, rules_of(name, request), "", none, none, CLOCK)


ELEMENTS = elements_of(
    STREAM,
    METHODS[STREAM].input_type,
    {name: method.input_type for name, method in METHODS.items()},
    safety=frozenset(safety_methods(SERVICE)),
    door_of=door,
)


def parse(raw: Any) -> Any:
    if isinstance(raw, Exception):
        raise raw
    return raw


async def said(*messages: Any) -> AsyncIterator[Any]:
    for message in messages:
        yield message


async def admitted(grant: Grant | None, *messages: Any, room: int = 100) -> list[Any]:
    """What becomes of each message: itself or the error; a caller may make `room` calls of each kind."""
    left = {True: room, False: room}

    def count(safety: bool) -> None:
        if not left[safety]:
            raise RateLimited("too fast")
        left[safety] -= 1

    requests = StreamRequests(
        said(*messages),
        parse=parse,
        door=door(STREAM, METHODS[STREAM].input_type),
        grant=grant,
        elements=ELEMENTS,
        count=count,
        clock=CLOCK,
    )
    found: list[Any] = []
    while True:
        try:
            found.append(await anext(requests))
        except MeshError as error:
            found.append(error)
        except StopAsyncIteration:
            return found


def logon(account: str = "main", venue: str = "") -> Request:
    return Request(logon=wire.SessionLogon(account_id=account, venue=venue))


def submit(account: str = "main", venue: str = "") -> Request:
    return Request(submit=wire.SubmitOrderRequest(order=order_pb2.NewOrder(account_id=account, venue=venue)))


def cancel(account: str = "main", venue: str = "") -> Request:
    return Request(cancel=wire.CancelOrderRequest(reference=wire.OrderReference(account_id=account, venue=venue)))


BEAT = Request(heartbeat=wire.SessionHeartbeat())


def test_elements_of_a_session_are_the_calls_they_stand_for() -> None:
    """Read off the contract: submits and cancels count, and cancels by themselves; signs of life do not."""
    assert {name: (one.method.rpartition("/")[2], one.counted, one.safety) for name, one in ELEMENTS.items()} == {
        "logon": ("", False, False),
        "submit": ("SubmitOrder", True, False),
        "cancel": ("CancelOrder", True, True),
        "replace": ("ReplaceOrder", True, False),
        "heartbeat": ("", False, False),
    }
    assert ELEMENTS["heartbeat"].door is None


async def test_message_that_is_refused_keeps_none_of_the_others() -> None:
    """Also one that cannot be read."""
    broken = InvalidRequest("no message")
    first, second, third = await admitted(ALL, broken, submit(), cancel())
    assert first is broken and second == submit() and third == cancel()


async def test_submits_that_are_too_many_are_refused_and_cancels_pass() -> None:
    """Cancels have the same rate once more for themselves; a heartbeat costs nothing."""
    found = await admitted(ALL, submit(), submit(), cancel(), BEAT, BEAT, cancel(), room=1)
    assert isinstance(found[1], RateLimited) and found[2] == cancel()
    assert found[3:5] == [BEAT, BEAT] and isinstance(found[5], RateLimited)


async def test_limited_caller_stays_within_its_accounts_and_venues() -> None:
    """As by the methods: what is not named means all, which is more."""
    limited = Grant(subject="x", scopes=ALL.scopes, accounts=frozenset({"main"}), venues=frozenset({"lighter"}))
    found = await admitted(
        limited,
        logon("main", "lighter"),
        submit("main", "lighter"),
        submit("other", "lighter"),
        submit("main", ""),
        cancel("", "lighter"),
        BEAT,
        cancel("main", "lighter"),
        logon("other", "lighter"),
        logon("main", ""),
    )
    refusals = [isinstance(one, PermissionDenied) for one in found]
    assert refusals == [False, False, True, True, True, False, False, True, True]


async def test_caller_needs_the_scope_and_the_method_of_each_request() -> None:
    """A token for the session alone may open one and keep it, no more."""
    session_only = Grant(subject="x", scopes=frozenset({TRADE}), methods=frozenset({"OrderService/OpenOrderSession"}))
    opened, refused, alive = await admitted(session_only, logon(), submit(), BEAT)
    assert opened == logon() and isinstance(refused, PermissionDenied) and alive == BEAT
    reader = Grant(subject="x", scopes=frozenset({READ}))
    (refused,) = await admitted(reader, cancel())
    assert isinstance(refused, PermissionDenied)


async def test_expired_token_admits_no_request() -> None:
    """The stream itself ends a moment later."""
    (refused,) = await admitted(Grant(subject="x", scopes=ALL.scopes, expires_ns=1), submit())
    assert isinstance(refused, AuthenticationFailed)


async def test_where_nobody_is_identified_everything_readable_passes() -> None:
    """Without an authority there is no grant to hold a request to."""
    assert await admitted(None, logon(), submit("any"), BEAT, Request()) == [logon(), submit("any"), BEAT, Request()]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_only_a_stream_of_requests_has_elements(name: str) -> None:
    """Every other request is one call."""
    types = {one: method.input_type for one, method in METHODS.items()}
    found = elements_of(name, types[name], types, safety=frozenset(), door_of=door)
    assert bool(found) == METHODS[name].client_streaming
