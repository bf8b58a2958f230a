"""Careful clients: they submit, amend and cancel over gRPC, at gateways and through the router, and note each answer.

A client that does not know what became of an order repeats its key or asks; it never sends the same order under a
second key. One client at a time works on an order, so that what it was told is an order of events.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import grpc
import grpc.aio

from tests.soak.ledger import Cancel, Claim, Intent
from tests.soak.mesh import SYMBOLS, SoakAccount, SoakMesh
from venuemesh.errors import Reason, Sent
from venuemesh.status import error_from_rpc
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import order_service_pb2_grpc as stubs

ROUTER = "router"
PAUSE_S = 0.02
REFUSED_PAUSE_S = 0.1
REPEATS = 3
TIMEOUTS_S = (0.15, 1.5, 3.0, 3.0)
"""Now and then a caller is in such a hurry that it cannot hear the answer."""
MIDDLE = {"BTC/USDC:USDC": 110_000, "ETH/USDC:USDC": 3_900}
"""Reference prices of the simulator; they stand still."""
MAX_RESTING = 25
"""Of one client; beyond that it cancels more than it submits."""

_CLAIMS = {
    wire.SUBMIT_OUTCOME_ACKNOWLEDGED: Claim.LIVE,
    wire.SUBMIT_OUTCOME_REJECTED: Claim.DEAD,
    wire.SUBMIT_OUTCOME_PENDING: Claim.DOUBT,
    wire.SUBMIT_OUTCOME_UNKNOWN: Claim.DOUBT,
}
_ENDED = (wire.CANCEL_OUTCOME_CANCELED, wire.CANCEL_OUTCOME_ALREADY_TERMINAL)
_NOT_ATTEMPTED_NOT = frozenset({error_pb2.REASON_OUTCOME_UNKNOWN, error_pb2.REASON_INTERNAL})


@dataclass(slots=True)
class Book:
    """All intents of a run by account, and how the calls about them ended."""

    intents: dict[tuple[str, str], list[Intent]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Answers that are wrong whatever the truth is."""

    def add(self, intent: Intent) -> None:
        """A client is about to send this."""
        self.intents.setdefault((intent.venue, intent.account_id), []).append(intent)

    def of(self, account: SoakAccount) -> list[Intent]:
        """What was wanted of an account."""
        return self.intents.get((account.venue, account.account_id), [])

    def all(self) -> list[Intent]:
        """Every intent."""
        return [intent for row in self.intents.values() for intent in row]


class Client:
    """One client of one account. Its choices depend on the seed alone; what it meets does not."""

    def __init__(self, mesh: SoakMesh, account: SoakAccount, book: Book, *, name: str, seed: str) -> None:
        self._mesh = mesh
        self._account = account
        self._book = book
        self._name = name
        self._random = Random(seed)
        self._count = 0
        self._resting: list[Intent] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; what is under way is finished."""
        work = (self._submit_resting, self._submit_taking, self._submit_meeting, self._submit_batch, self._submit_twice)
        while not stop.is_set():
            if self._resting and self._random.random() < 0.35 + 0.5 * (len(self._resting) > MAX_RESTING):
                went_well = await self._random.choice((self._cancel, self._cancel, self._cancel_batch, self._amend))()
            else:
                went_well = await self._random.choices(work, weights=(4, 2, 3, 2, 1))[0]()
            await asyncio.sleep(PAUSE_S if went_well else REFUSED_PAUSE_S)

    # submitting

    def _new(self, *, rests: bool, meets: bool = False) -> Intent:
        """What is wanted next.

        Args:
            rests: far from the market.
            meets: in the middle, where only our own orders trade with one another, in part and at any time.
        """
        self._count += 1
        buy = self._random.random() < 0.5
        symbol = self._random.choice(SYMBOLS)
        lots = self._random.randint(1, 5)
        quantity = Decimal(lots) * (Decimal("0.001") if symbol.startswith("BTC") else Decimal("0.01"))
        price = None
        if rests:
            price = self._far_price(symbol, buy=buy)
        elif meets:
            price = Decimal(MIDDLE[symbol])
        intent = Intent(
            venue=self._account.venue,
            account_id=self._account.account_id,
            key=f"{self._name}-{self._count}",
            symbol=symbol,
            buy=buy,
            quantity=quantity,
            price=price,
            rests=rests,
            prices=set() if price is None else {price},
        )
        self._book.add(intent)
        return intent

    def _far_price(self, symbol: str, *, buy: bool) -> Decimal:
        """A round price well away from the market on the side where it rests."""
        middle, step = MIDDLE[symbol], 1_000 if symbol.startswith("BTC") else 50
        away = self._random.randint(15, 25)
        return Decimal(middle + (-away if buy else away) * step)

    async def _submit_resting(self) -> bool:
        return await self._submit(self._new(rests=True))

    async def _submit_taking(self) -> bool:
        return await self._submit(self._new(rests=False))

    async def _submit_meeting(self) -> bool:
        return await self._submit(self._new(rests=False, meets=True))

    async def _submit(self, intent: Intent) -> bool:
        """Submit and, mostly, repeat the key until it has an answer that claims something."""
        tries = 1 if self._random.random() < 0.3 else REPEATS
        for _ in range(tries):
            claim = await self._submit_once(intent, self._stub())
            if claim in (Claim.LIVE, Claim.DEAD):
                break
            await asyncio.sleep(REFUSED_PAUSE_S)
        self._keep(intent)
        return claim is not Claim.NOT_SENT

    async def _submit_twice(self) -> bool:
        """The same key from two callers at once, over two ways."""
        intent = self._new(rests=True)
        ways = (self._stub(ROUTER), self._stub(self._gateway))
        claims = await asyncio.gather(*(self._submit_once(intent, way) for way in ways))
        self._keep(intent)
        return Claim.NOT_SENT not in claims

    async def _submit_once(self, intent: Intent, stub: Any) -> Claim:
        request = wire.SubmitOrderRequest(order=new_order(intent))
        try:
            answer = await stub.SubmitOrder(request, timeout=self._timeout())
        except grpc.aio.AioRpcError as failure:
            claim = self._claim_of_error("submit", intent, failure)
        else:
            claim = _CLAIMS[answer.outcome]
            self._count_answer("submit", claim)
        intent.claims.append(claim)
        return claim

    async def _submit_batch(self) -> bool:
        intents = [self._new(rests=self._random.random() < 0.7) for _ in range(self._random.randint(2, 5))]
        request = wire.BatchSubmitOrdersRequest(orders=[new_order(intent) for intent in intents])
        try:
            answer = await self._stub().BatchSubmitOrders(request, timeout=self._timeout())
        except grpc.aio.AioRpcError as failure:
            claims = [self._claim_of_error("batch", intent, failure) for intent in intents]
        else:
            claims = [self._claim_of_result(result) for result in answer.results]
        for intent, claim in zip(intents, claims, strict=True):
            intent.claims.append(claim)
            self._keep(intent)
        return Claim.NOT_SENT not in claims

    def _claim_of_result(self, result: wire.BatchSubmitResult) -> Claim:
        if result.WhichOneof("result") == "response":
            claim = _CLAIMS[result.response.outcome]
        else:
            claim = Claim.DOUBT if result.error.error.reason in _NOT_ATTEMPTED_NOT else Claim.NOT_SENT
        self._count_answer("batch", claim)
        return claim

    def _claim_of_error(self, method: str, intent: Intent, failure: grpc.aio.AioRpcError) -> Claim:
        error = error_from_rpc(failure, is_write=True)
        if error.reason is Reason.CLIENT_ORDER_ID_REUSED:
            self._book.wrong.append(f"{intent.key}: refused as another order's key")
        claim = Claim.NOT_SENT if error.sent is Sent.NO else Claim.DOUBT
        self._count_answer(method, claim, error.reason)
        return claim

    def _keep(self, intent: Intent) -> None:
        if intent.price is not None and {Claim.LIVE, Claim.DOUBT} & set(intent.claims):
            self._resting.append(intent)

    # changing

    def _take(self) -> Intent:
        """Out of our hands while it is worked on."""
        return self._resting.pop(self._random.randrange(len(self._resting)))

    async def _cancel(self) -> bool:
        intent = self._take()
        if intent.cancel is Cancel.NEVER:
            intent.cancel = Cancel.TRIED
        request = wire.CancelOrderRequest(reference=reference_of(intent))
        try:
            answer = await self._stub().CancelOrder(request, timeout=self._timeout())
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure, is_write=True)
            self._count_answer("cancel", Claim.DOUBT, error.reason)
            return False
        self._note_canceled(intent, answer)
        return True

    async def _cancel_batch(self) -> bool:
        intents = [self._take() for _ in range(min(len(self._resting), self._random.randint(2, 4)))]
        for intent in intents:
            if intent.cancel is Cancel.NEVER:
                intent.cancel = Cancel.TRIED
        request = wire.BatchCancelOrdersRequest(references=[reference_of(intent) for intent in intents])
        try:
            answer = await self._stub().BatchCancelOrders(request, timeout=self._timeout())
        except grpc.aio.AioRpcError as failure:
            self._count_answer("cancel", Claim.DOUBT, error_from_rpc(failure, is_write=True).reason)
            return False
        for intent, result in zip(intents, answer.results, strict=True):
            if result.WhichOneof("result") == "response":
                self._note_canceled(intent, result.response)
        return True

    def _note_canceled(self, intent: Intent, answer: wire.CancelOrderResponse) -> None:
        self._book.answers[f"cancel {wire.CancelOutcome.Name(answer.outcome).removeprefix('CANCEL_OUTCOME_')}"] += 1
        if answer.outcome in _ENDED:
            intent.cancel = Cancel.DONE

    async def _amend(self) -> bool:
        intent = self._take()
        intent.amendments += 1
        price = self._far_price(intent.symbol, buy=intent.buy)
        request = wire.ReplaceOrderRequest(
            reference=reference_of(intent), request_id=f"{intent.key}-a{intent.amendments}", price=str(price)
        )
        # Until it is answered either may hold.
        before = set(intent.prices)
        intent.prices.add(price)
        try:
            answer = await self._stub().ReplaceOrder(request, timeout=self._timeout())
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure, is_write=True)
            claim = Claim.NOT_SENT if error.sent is Sent.NO else Claim.DOUBT
            self._count_answer("amend", claim, error.reason)
        else:
            claim = _CLAIMS[answer.outcome]
            self._count_answer("amend", claim)
        if claim is Claim.LIVE:
            intent.prices = {price}
        elif claim is not Claim.DOUBT:
            intent.prices = before
        self._resting.append(intent)
        return claim is not Claim.NOT_SENT

    # plumbing

    @property
    def _gateway(self) -> str:
        return f"gateway_{self._account.venue}"

    def _stub(self, service: str = "") -> Any:
        chosen = service or self._random.choice((ROUTER, self._gateway))
        return stubs.OrderServiceStub(self._mesh.channel(chosen))

    def _timeout(self) -> float:
        return self._random.choice(TIMEOUTS_S)

    def _count_answer(self, method: str, claim: Claim, reason: Reason | None = None) -> None:
        self._book.answers[f"{method} {claim}{f' {reason}' if reason else ''}"] += 1
        if reason is Reason.INTERNAL:
            self._book.wrong.append(f"FAULT OF OURS {method} of {self._name} was answered INTERNAL")


def new_order(intent: Intent) -> pb.NewOrder:
    """The order of an intent, the same each time."""
    order = pb.NewOrder(
        account_id=intent.account_id,
        client_order_id=intent.key,
        venue=intent.venue,
        symbol=intent.symbol,
        side=pb.SIDE_BUY if intent.buy else pb.SIDE_SELL,
        order_type=pb.ORDER_TYPE_MARKET if intent.price is None else pb.ORDER_TYPE_LIMIT,
        time_in_force=pb.TIME_IN_FORCE_IOC if intent.price is None else pb.TIME_IN_FORCE_GTC,
        quantity=str(intent.quantity),
    )
    if intent.price is not None:
        order.price = str(intent.price)
    return order


def reference_of(intent: Intent) -> wire.OrderReference:
    """Names the order of an intent."""
    return wire.OrderReference(account_id=intent.account_id, venue=intent.venue, client_order_id=intent.key)


__all__ = ["Book", "Client", "new_order", "reference_of"]
