"""Signs transactions, sends each at most once, and waits for its verdict.

They go over the account's WebSocket while it is up and over HTTP otherwise; only where nothing left the process by one
path is the other one tried. A transaction that the venue refused for its nonce has certainly not been taken and never
will be, so that it is signed anew with another nonce: no order is lost to a nonce.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from gateway_lighter.answers import refused
from gateway_lighter.codec_verdicts import Queued, TransactionState, Verdict
from gateway_lighter.keys import NS_PER_MS, Wallet
from gateway_lighter.nonces import NonceFate, fate_of_error, fate_of_refusal
from gateway_lighter.private_stream import PrivateStream
from gateway_lighter.refusals import RefusalMeaning, classify_error
from gateway_lighter.rest import LighterRest
from gateway_lighter.signing import SignedTransaction
from gateway_lighter.transactions import Transaction
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
from venuemesh.gateway.venue import Refused, Reservation, VenueOrder

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
    """Call it with a transaction and a reader of its verdict.

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
        self._poll_s = poll_s
        self._clock = clock
        self._on_unknown = on_unknown
        self._sleep = sleep
        self._out_of_step = asyncio.Event()

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
    ) -> T | Refused:
        """Send one transaction and wait until `read` understands what became of it.

        Args:
            reservation: its nonce and expiry; None takes the next nonce and a life of `UNRESERVED_LIFE_S`.
            sent: called once when it has been written. Over HTTP nothing tells when: it comes with the answer.
            client_index: of the order it makes.
            look_up: asks for that order, where the transaction's row alone does not tell.
        Raises:
            VenueUnavailable, RateLimited: with `sent` = no, nothing left.
            OutcomeUnknown: it may have been taken, or was taken and the verdict has not come.
        """
        wallet = self._wallets.get(account_id)
        if wallet is None:
            raise AccountNotFound(f"account_id: {account_id!r} is no account of this gateway", field="account_id")
        told = _Once(sent)
        answer: RefusalMeaning | None = None
        for _ in range(NONCE_TRIES):
            signed, fate = await self._sign(account_id, wallet, transaction, reservation)
            expectation = self._streams[account_id].verdicts.expect(signed.tx_hash, client_index)
            try:
                found = await self._deliver(account_id, wallet, signed, fate, correlation_id, told)
                if isinstance(found, Queued):
                    return await self._settle(account_id, expectation, read, look_up)
            finally:
                expectation.close()
            answer = found
            if found.reason is not Reason.NONCE_REJECTED:
                break
            log.warning("nonce_rejected", extra={"account_id": account_id, "nonce": signed.nonce})
        assert answer is not None  # the loop runs at least once
        return refused(answer)

    # --- sending -------------------------------------------------------------------------------------------

    async def _sign(
        self, account_id: str, wallet: Wallet, transaction: Transaction, reservation: Reservation | None
    ) -> tuple[SignedTransaction, Callable[[NonceFate], None]]:
        """The signed transaction, and how to tell what became of its nonce."""
        if wallet.pool.out_of_step():
            await self._resynchronize(account_id, wallet)
        lease = wallet.take(reservation)
        expired_at_ms = self._expires_ms(reservation)
        try:
            signed = wallet.sign(transaction, lease, expired_at_ms=expired_at_ms)
        except MeshError:
            wallet.pool.settle(lease, NonceFate.UNSPENT)
            raise
        return signed, lambda fate: wallet.pool.settle(lease, fate)

    async def _resynchronize(self, account_id: str, wallet: Wallet) -> None:
        try:
            await wallet.resynchronize(self._rests[account_id])
        except MeshError as error:
            if len(wallet.pool.out_of_step()) == len(wallet.signers):
                raise Unavailable(
                    f"account {account_id}: no API key has a known nonce: {error.message}", retry_after_s=1.0
                ) from error

    def _expires_ms(self, reservation: Reservation | None) -> int:
        if reservation is not None and reservation.expires_ns:
            return reservation.expires_ns // NS_PER_MS
        return self._clock.now_ns() // NS_PER_MS + int(UNRESERVED_LIFE_S * 1000)

    async def _deliver(
        self,
        account_id: str,
        wallet: Wallet,
        signed: SignedTransaction,
        settle: Callable[[NonceFate], None],
        correlation_id: str,
        told: Callable[[], None],
    ) -> Queued | RefusalMeaning:
        try:
            answer = await self._carry(account_id, signed, correlation_id, told)
        except MeshError as error:
            settle(fate_of_error(error))
            code = error.metadata.get("venue_code", "")
            if code.isdigit() and not classify_error(int(code)).recognized:
                self._on_unknown(account_id, f"refusal {error.message}")
            raise
        except asyncio.CancelledError:
            settle(NonceFate.UNKNOWN)
            raise
        if isinstance(answer, Queued):
            settle(NonceFate.SPENT)
            wallet.quota.told(answer.volume_quota_remaining)
            return answer
        settle(fate_of_refusal(answer))
        if wallet.pool.out_of_step():
            self._out_of_step.set()
        return answer

    async def _carry(
        self, account_id: str, signed: SignedTransaction, correlation_id: str, told: Callable[[], None]
    ) -> Queued | RefusalMeaning:
        stream = self._streams[account_id].stream
        if stream.connected:
            try:
                return await stream.send_transactions(
                    [signed], timeout_s=self._timeout_s, on_written=told, correlation_id=correlation_id
                )
            except (VenueUnavailable, RateLimited) as error:
                if error.sent is not Sent.NO:
                    raise
        rest = self._rests[account_id]
        answer = await rest.send_transactions([signed], timeout_s=self._timeout_s, correlation_id=correlation_id)
        told()
        return answer

    # --- the verdict ---------------------------------------------------------------------------------------

    async def _settle(
        self,
        account_id: str,
        expectation: Expectation,
        read: Callable[[Finding], T | Refused | None],
        look_up: Callable[[], Awaitable[VenueOrder | None]] | None,
    ) -> T | Refused:
        """Listen to the stream; where it is silent, ask."""
        deadline_s = self._clock.monotonic_s() + self._timeout_s
        poll_s = self._poll_s
        while True:
            expectation.changed.clear()
            for finding in expectation.findings:
                if (answer := read(finding)) is not None:
                    self._note_words(account_id, finding)
                    return answer
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise OutcomeUnknown(
                    f"the venue queued transaction {expectation.tx_hash} and has not said what became of it",
                    metadata={"tx_hash": expectation.tx_hash},
                )
            try:
                async with asyncio.timeout(min(poll_s, left_s)):
                    await expectation.changed.wait()
            except TimeoutError:
                poll_s *= 2
                await self._ask(account_id, expectation, look_up)

    def _note_words(self, account_id: str, finding: Finding) -> None:
        refusal = finding.refusal if isinstance(finding, Verdict) else None
        if refusal is not None and not refusal.recognized:
            self._on_unknown(account_id, f"refusal {refusal.text}")

    async def _ask(
        self, account_id: str, expectation: Expectation, look_up: Callable[[], Awaitable[VenueOrder | None]] | None
    ) -> None:
        try:
            if expectation.verdict is None:
                verdict = await self._rests[account_id].fetch_verdict(expectation.tx_hash)
                if verdict is not None:
                    expectation.tell(verdict)
            executed = expectation.verdict is not None and expectation.verdict.state is TransactionState.EXECUTED
            if executed and expectation.order is None and look_up is not None:
                order = await look_up()
                if order is not None:
                    expectation.tell(order)
        except MeshError as error:
            log.warning("verdict_not_read", extra={"account_id": account_id, "error": error.message})


class _Once:
    """Passes on the first call only: a transaction signed anew has been written before."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()
