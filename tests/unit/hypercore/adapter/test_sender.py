"""Signing ahead: the same bytes as signing late, for this one request and no other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypercore.actions import build_cancel, build_order_action
from hypercore.adapter.answers import build_order_wire
from hypercore.adapter.sender import MAX_AHEAD, Sender
from hypercore.signing import Network, NonceSource, SecretKey, SignedAction, Signer
from tests.fakes import ManualClock
from tests.unit.hypercore.adapter.support import OTHER, answer, ticket
from venuemesh.gateway.venue import Reservation

ACTION = build_order_action([build_order_wire(ticket(), 1)])
RESERVATION = Reservation(nonce=1_700_000_000_000, expires_ns=1_700_000_015_000_000_000)


class CountingSigner:
    """The real signer, and how often it was asked."""

    def __init__(self) -> None:
        self.real = Signer(SecretKey("11" * 32), Network.TESTNET)
        self.calls = 0

    def sign(self, *arguments: Any, **options: Any) -> SignedAction:
        self.calls += 1
        return self.real.sign(*arguments, **options)


class Rest:
    """Keeps what would leave."""

    def __init__(self) -> None:
        self.sent: list[SignedAction] = []

    async def send_action(self, signed: SignedAction, **_: Any) -> Any:
        self.sent.append(signed)
        return answer({"resting": {"oid": 1}})


def sender(vault: str | None = None) -> tuple[Sender, CountingSigner, Rest]:
    signer, rest = CountingSigner(), Rest()
    wallet: Any = SimpleNamespace(account=SimpleNamespace(vault=vault), signer=signer, nonces=NonceSource())
    streams: Any = {"main": SimpleNamespace(stream=SimpleNamespace(connected=False))}
    quotas: Any = SimpleNamespace(on_sent=lambda *_: None)
    anything: Any = rest
    made = Sender(
        {"main": wallet}, streams, anything, quotas, on_unknown=lambda *_: None, timeout_s=1, clock=ManualClock()
    )
    return made, signer, rest


async def test_request_signed_ahead_is_signed_once_and_the_same() -> None:
    """Also for a sub-account, which is part of what is signed."""
    for vault in (None, OTHER):
        send, signer, rest = sender(vault)
        send.sign_ahead("main", ACTION, RESERVATION)
        await send("main", ACTION, RESERVATION, "id")
        late, _, expected = sender(vault)
        await late("main", ACTION, RESERVATION, "id")
        assert signer.calls == 1
        assert rest.sent == expected.sent


async def test_signature_made_ahead_serves_one_request_only() -> None:
    """A second request with the same reservation is signed for itself."""
    send, signer, rest = sender()
    send.sign_ahead("main", ACTION, RESERVATION)
    await send("main", ACTION, RESERVATION, "id")
    await send("main", ACTION, RESERVATION, "id")
    assert signer.calls == 2
    assert rest.sent[0] == rest.sent[1]


async def test_signature_of_another_action_is_never_sent() -> None:
    """Same account and nonce, other content: the content decides."""
    send, _, rest = sender()
    send.sign_ahead("main", build_cancel([(1, 7)]), RESERVATION)
    await send("main", ACTION, RESERVATION, "id")
    assert rest.sent[0].action == ACTION


async def test_signatures_nobody_uses_are_let_go() -> None:
    """Bound: the oldest goes first and is made anew when it is needed after all."""
    send, signer, _ = sender()
    for number in range(MAX_AHEAD + 1):
        send.sign_ahead("main", ACTION, Reservation(nonce=RESERVATION.nonce + number, expires_ns=0))
    await send("main", ACTION, Reservation(nonce=RESERVATION.nonce, expires_ns=0), "id")
    assert signer.calls == MAX_AHEAD + 2
