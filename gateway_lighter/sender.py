"""Signs transactions, sends each at most once, and waits for its verdict.

They go over the account's WebSocket while it is up and over HTTP otherwise; only where nothing left the process by one
path is the other one tried. A transaction that the venue refused for its nonce has certainly not been taken and never
will be, so that it is signed anew with another nonce: no order is lost to a nonce.

Several transactions go in one batch. Where the venue refuses a batch, for the sake of one of them, the very same signed
transactions are sent one by one: a nonce passes once, so that nothing can be done twice, and each gets its own answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from gateway_lighter.answers import refused
from gateway_lighter.codec_verdicts import Queued
from gateway_lighter.keys import NS_PER_MS, SKIPPING, Wallet
from gateway_lighter.nonces import NonceFate, NonceLease, fate_of_error, fate_of_refusal
from gateway_lighter.private_stream import PrivateStream
from gateway_lighter.refusals import RefusalMeaning, classify_error
from gateway_lighter.rest import LighterRest
from gateway_lighter.settling import Part, Settler
from gateway_lighter.signing import SignedTransaction
from gateway_lighter.transactions import Attributes, Transaction
from gateway_lighter.verdicts import Expectation, Finding
from venuemesh.clock import Clock
from venuemesh.errors import (
    AccountNotFound,
    MeshError,
    OutcomeUnknown,
    RateLimited,
    Reason,
    Sent,
    Unavailable,
    VenueUnavailable,
)
from venuemesh.gateway.venue import Refused, Reservation, Unclear, VenueOrder

log = logging.getLogger(__name__)

NONCE_TRIES: Final = 3
UNRESERVED_LIFE_S: Final = 599.0
"""Of a transaction that may as well take effect late: above all a cancel, which no slow clock may stop. As long as the
venue's own library gives."""
RESYNC_RETRY_S: Final = 1.0
T = TypeVar("T")


def _ignore() -> None:
    """Nobody wants to know."""


def _no_words(_account_id: str, _text: str) -> None:
    """Nobody keeps count."""


class Sender:
    """Call it with a transaction and a reader of its verdict, or with several `together`.

    Args:
        timeout_s: most time for the answer, and again for the verdict.
        poll_s: silence of the stream after which the venue is asked; doubled each time.
        on_unknown: told, with the account, of a refusal whose code nobody has seen.
    """

    def __init__(
        self,
        wallets: Mapping[str, Wallet],
        streams: Mapping[str, PrivateStream],
        rests: Mapping[str, LighterRest],
        *,
        timeout_s: float,
        poll_s: float,
        clock: Clock,
        on_unknown: Callable[[str, str], None] = _no_words,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._wallets = wallets
        self._streams = streams
        self._rests = rests
        self._timeout_s = timeout_s
        self._clock = clock
        self._on_unknown = on_unknown
        self._sleep = sleep
        self._out_of_step = asyncio.Event()
        self._settler = Settler(streams, rests, timeout_s=timeout_s, poll_s=poll_s, clock=clock, on_unknown=on_unknown)

    async def run(self) -> None:
        """Ask for the next nonce of keys that lost count, until cancelled; without it no order is reserved."""
        while True:
            await self._out_of_step.wait()
            self._out_of_step.clear()
            for account_id, wallet in self._wallets.items():
                try:
                    await wallet.resynchronize(self._rests[account_id])
                except MeshError as error:
                    log.warning("nonce_not_read", extra={"account_id": account_id, "error": error.message})
                    self._out_of_step.set()
            if self._out_of_step.is_set():
                await self._sleep(RESYNC_RETRY_S)

    async def __call__(
        self,
        account_id: str,
        transaction: Transaction,
        reservation: Reservation | None,
        correlation_id: str,
        read: Callable[[Finding], T | Refused | None],
        sent: Callable[[], None] = _ignore,
        *,
        client_index: int = 0,
        look_up: Callable[[], Awaitable[VenueOrder | None]] | None = None,
        attributes: Attributes = SKIPPING,
    ) -> T | Refused:
        """Send one transaction and wait until `read` understands what became of it; see `Part` and `_send`."""
        part = Part(read=read, client_index=client_index, look_up=look_up)
        (answer,) = await self._send(account_id, [transaction], [part], reservation, correlation_id, sent, attributes)
        if isinstance(answer, OutcomeUnknown):
            raise answer
        return answer

    async def together(
        self,
        account_id: str,
        transactions: Sequence[Transaction],
        parts: Sequence[Part[T]],
        reservation: Reservation | None,
        correlation_id: str,
        sent: Callable[[], None] = _ignore,
    ) -> list[T | Refused | Unclear]:
        """Send transactions in one message; one answer per part, in order. Raises as `_send`."""
        found = await self._send(account_id, transactions, parts, reservation, correlation_id, sent)
        return [Unclear(cause=one.message) if isinstance(one, OutcomeUnknown) else one for one in found]

    async def _send(
        self,
        account_id: str,
        transactions: Sequence[Transaction],
        parts: Sequence[Part[T]],
        reservation: Reservation | None,
        correlation_id: str,
        sent: Callable[[], None],
        attributes: Attributes = SKIPPING,
    ) -> list[T | Refused | OutcomeUnknown]:
        """Send one message and wait for the verdict of each part.

        Args:
            reservation: first nonce and expiry; None takes the next nonce and a life of `UNRESERVED_LIFE_S`.
            sent: called once when it has been written. Over HTTP nothing tells when: it comes with the answer.
            attributes: of each transaction.
        Raises:
            VenueUnavailable, RateLimited: with `sent` = no, nothing left.
            OutcomeUnknown: all of it may have been taken.
        """
        wallet = self._wallets.get(account_id)
        if wallet is None:
            raise AccountNotFound(f"account_id: {account_id!r} is no account of this gateway", field="account_id")
        told = _Once(sent)
        answer: RefusalMeaning | None = None
        for _ in range(NONCE_TRIES):
            message = await self._sign(account_id, wallet, transactions, reservation, attributes)
            verdicts = self._streams[account_id].verdicts
            expectations = [verdicts.expect(message.signed[part.place].tx_hash, part.client_index) for part in parts]
            try:
                found = await self._deliver(account_id, message, correlation_id, told)
                if isinstance(found, Queued):
                    return await self._settler.settle(account_id, expectations, parts)
                if message.is_batch and found.reason is not Reason.NONCE_REJECTED:
                    return await self._send_apart(account_id, message, parts, expectations, correlation_id)
            finally:
                for expectation in expectations:
                    expectation.close()
            answer = found
            if found.reason is not Reason.NONCE_REJECTED:
                break
            log.warning("nonce_rejected", extra={"account_id": account_id, "nonce": message.signed[0].nonce})
        assert answer is not None  # the loop runs at least once
        return [refused(answer)] * len(parts)

    async def _send_apart(
        self,
        account_id: str,
        message: _Message,
        parts: Sequence[Part[T]],
        expectations: Sequence[Expectation],
        correlation_id: str,
    ) -> list[T | Refused | OutcomeUnknown]:
        """Send each transaction of a refused batch alone, as it was signed."""
        doors = await self._knock(account_id, message, correlation_id)
        queued = [at for at, part in enumerate(parts) if doors[part.place] is None]
        settled = await self._settler.settle(
            account_id, [expectations[at] for at in queued], [parts[at] for at in queued]
        )
        by_part = dict(zip(queued, settled, strict=True))
        return [by_part[at] if (door := doors[part.place]) is None else door for at, part in enumerate(parts)]

    async def _knock(
        self, account_id: str, message: _Message, correlation_id: str
    ) -> list[Refused | OutcomeUnknown | None]:
        """What the venue said at once to each transaction sent alone; None is queued."""
        doors: list[Refused | OutcomeUnknown | None] = []
        failure = ""
        try:
            for one in message.apart():
                if failure:
                    doors.append(OutcomeUnknown(f"sent in a batch that was refused, and not again: {failure}"))
                    continue
                try:
                    found = await self._deliver(account_id, one, correlation_id, _ignore)
                except MeshError as error:
                    failure = error.message
                    doors.append(OutcomeUnknown(error.message, metadata=error.metadata))
                else:
                    doors.append(_door(found))
        finally:
            message.settle(NonceFate.UNKNOWN)  # of what was not sent again; the others are settled
        return doors

    # --- sending -------------------------------------------------------------------------------------------

    async def _sign(
        self,
        account_id: str,
        wallet: Wallet,
        transactions: Sequence[Transaction],
        reservation: Reservation | None,
        attributes: Attributes,
    ) -> _Message:
        if wallet.pool.out_of_step():
            await self._resynchronize(account_id, wallet)
        leases = wallet.take(reservation, len(transactions))
        expired_at_ms = self._expires_ms(reservation)
        signed: list[SignedTransaction] = []
        try:
            for transaction, lease in zip(transactions, leases, strict=True):
                signed.append(wallet.sign(transaction, lease, expired_at_ms=expired_at_ms, attributes=attributes))
                if len(leases) > 1:
                    await asyncio.sleep(0)  # a whole batch takes as long as many frames of a book
        except BaseException:
            for lease in leases:
                wallet.pool.settle(lease, NonceFate.UNSPENT)
            raise
        return _Message(wallet, signed, leases)

    async def _resynchronize(self, account_id: str, wallet: Wallet) -> None:
        try:
            await wallet.resynchronize(self._rests[account_id])
        except MeshError as error:
            if len(wallet.pool.out_of_step()) == len(wallet.signers):
                raise Unavailable(
                    f"account {account_id}: no API key has a known nonce: {error.message}",
                    reason=Reason.STREAM_RECONCILING,
                    retry_after_s=1.0,
                ) from error

    def _expires_ms(self, reservation: Reservation | None) -> int:
        if reservation is not None and reservation.expires_ns:
            return reservation.expires_ns // NS_PER_MS
        return self._clock.now_ns() // NS_PER_MS + int(UNRESERVED_LIFE_S * 1000)

    async def _deliver(
        self, account_id: str, message: _Message, correlation_id: str, told: Callable[[], None]
    ) -> Queued | RefusalMeaning:
        """Send a message and settle its nonces, except of a batch that will be sent one by one."""
        try:
            answer = await self._carry(account_id, message.signed, correlation_id, told)
        except MeshError as error:
            message.settle(fate_of_error(error))
            code = error.metadata.get("venue_code", "")
            if code.isdigit() and not classify_error(int(code)).recognized:
                self._on_unknown(account_id, f"refusal {error.message}")
            raise
        except asyncio.CancelledError:
            message.settle(NonceFate.UNKNOWN)
            raise
        if isinstance(answer, Queued):
            message.settle(NonceFate.SPENT)
            message.wallet.quota.told(answer.volume_quota_remaining)
            return answer
        if not message.is_batch or answer.reason is Reason.NONCE_REJECTED:
            message.settle(fate_of_refusal(answer))
        if message.wallet.pool.out_of_step():
            self._out_of_step.set()
        return answer

    async def _carry(
        self,
        account_id: str,
        signed: Sequence[SignedTransaction],
        correlation_id: str,
        told: Callable[[], None],
    ) -> Queued | RefusalMeaning:
        stream = self._streams[account_id].stream
        if stream.connected:
            try:
                return await stream.send_transactions(
                    signed, timeout_s=self._timeout_s, on_written=told, correlation_id=correlation_id
                )
            except (VenueUnavailable, RateLimited) as error:
                if error.sent is not Sent.NO:
                    raise
        rest = self._rests[account_id]
        answer = await rest.send_transactions(signed, timeout_s=self._timeout_s, correlation_id=correlation_id)
        told()
        return answer


def _door(found: Queued | RefusalMeaning) -> Refused | OutcomeUnknown | None:
    """What is known of a transaction of a refused batch once it was sent alone."""
    if isinstance(found, Queued):
        return None
    if found.reason is Reason.NONCE_REJECTED:
        # Taken with the batch after all, or overtaken: its own hash will tell.
        return OutcomeUnknown(f"sent in a batch and again: {found.text}")
    return refused(found)


class _Message:
    """Signed transactions that travel together, with their nonces."""

    def __init__(self, wallet: Wallet, signed: Sequence[SignedTransaction], leases: Sequence[NonceLease]) -> None:
        self.wallet = wallet
        self.signed = signed
        self._leases = leases

    @property
    def is_batch(self) -> bool:
        """More than one."""
        return len(self.signed) > 1

    def settle(self, fate: NonceFate) -> None:
        """Tell what became of all nonces."""
        for lease in self._leases:
            self.wallet.pool.settle(lease, fate)

    def apart(self) -> list[_Message]:
        """Each transaction as a message of its own."""
        return [_Message(self.wallet, [one], [lease]) for one, lease in zip(self.signed, self._leases, strict=True)]


class _Once:
    """Passes on the first call only: a transaction signed anew has been written before."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()
