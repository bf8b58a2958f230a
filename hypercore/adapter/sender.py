"""Signs actions and sends each at most once: over the account's WebSocket while it is up, over HTTP otherwise."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from hypercore.action_types import AnyAction
from hypercore.adapter.keys import Wallet
from hypercore.adapter.normalizer import NS_PER_MS
from hypercore.adapter.private_stream import PrivateStream
from hypercore.adapter.quotas import Quotas
from hypercore.exchange_codec import ExchangeAnswer, Refused, UnknownStatus
from hypercore.rest import HyperCoreRest
from hypercore.signing import SignedAction
from venuemesh.clock import Clock
from venuemesh.errors import AccountNotFound, RateLimited, Reason, Sent, VenueUnavailable
from venuemesh.gateway.venue import Reservation

MAX_AHEAD = 64
"""Signatures kept for requests that may never be made."""


class Sender:
    """Call it with an action; only where nothing left the process by one path is the other one tried."""

    def __init__(
        self,
        wallets: Mapping[str, Wallet],
        streams: Mapping[str, PrivateStream],
        rest: HyperCoreRest,
        quotas: Quotas,
        *,
        on_unknown: Callable[[str, str], None],
        timeout_s: float,
        clock: Clock,
    ) -> None:
        self._wallets = wallets
        self._streams = streams
        self._rest = rest
        self._quotas = quotas
        self._on_unknown = on_unknown
        self._timeout_s = timeout_s
        self._clock = clock
        self._ahead: OrderedDict[tuple[str, int], SignedAction] = OrderedDict()

    def sign_ahead(self, account_id: str, action: AnyAction, reservation: Reservation) -> None:
        """Sign an action that may be sent in a moment, while its sender waits for something else."""
        self._ahead[account_id, reservation.nonce] = self._sign(self._wallet(account_id), action, reservation)
        if len(self._ahead) > MAX_AHEAD:
            self._ahead.popitem(last=False)

    async def __call__(
        self,
        account_id: str,
        action: AnyAction,
        reservation: Reservation | None,
        correlation_id: str,
        sent: Callable[[], None] = lambda: None,
        *,
        as_master: bool = False,
    ) -> ExchangeAnswer:
        """Sign and send one action.

        Args:
            reservation: its nonce and expiry; None takes the next nonce and no expiry.
            sent: called once it is written. Over HTTP nothing tells when: it comes with the answer.
            as_master: leave the vault or sub-account out of the envelope.
        Raises:
            VenueUnavailable, RateLimited: with `sent` = no, nothing left. OutcomeUnknown: it may have arrived.
        """
        wallet = self._wallet(account_id)
        signed = self._ahead.pop((account_id, reservation.nonce), None) if reservation else None
        if signed is None or signed.action != action:
            signed = self._sign(wallet, action, reservation, as_master=as_master)
        answer = await self._deliver(account_id, signed, correlation_id, sent)
        if isinstance(answer, Refused) and answer.meaning.reason is Reason.VOLUME_QUOTA_EXHAUSTED:
            self._quotas.on_exhausted(account_id, answer.meaning.details)
        for text in unknown_words(answer):
            self._on_unknown(account_id, text)
        return answer

    def _wallet(self, account_id: str) -> Wallet:
        wallet = self._wallets.get(account_id)
        if wallet is None:
            raise AccountNotFound(f"account_id: {account_id!r} is no account of this gateway", field="account_id")
        return wallet

    def _sign(
        self, wallet: Wallet, action: AnyAction, reservation: Reservation | None, *, as_master: bool = False
    ) -> SignedAction:
        nonce = reservation.nonce if reservation else wallet.nonces.reserve(self._clock.now_ns() // NS_PER_MS)
        expires_ms = reservation.expires_ns // NS_PER_MS if reservation else 0
        vault = None if as_master else wallet.account.vault
        return wallet.signer.sign(action, nonce, vault_address=vault, expires_after=expires_ms or None)

    async def _deliver(
        self, account_id: str, signed: SignedAction, correlation_id: str, sent: Callable[[], None]
    ) -> ExchangeAnswer:
        stream, entries = self._streams[account_id].stream, signed.length()

        def written() -> None:
            self._quotas.on_sent(account_id, entries)
            sent()

        if stream.connected:
            try:
                return await stream.post_action(
                    signed, timeout_s=self._timeout_s, on_written=written, correlation_id=correlation_id
                )
            except (VenueUnavailable, RateLimited) as error:
                if error.sent is not Sent.NO:
                    raise
        answer = await self._rest.send_action(signed, timeout_s=self._timeout_s, correlation_id=correlation_id)
        written()
        return answer


def unknown_words(answer: ExchangeAnswer) -> list[str]:
    """Refusals and forms of an answer that are in no table, whole."""
    parts = [answer] if isinstance(answer, Refused) else answer.statuses
    words = []
    for part in parts:
        if isinstance(part, Refused) and not part.meaning.recognized:
            words.append(part.meaning.text)
        elif isinstance(part, UnknownStatus):
            words.append(part.raw)
    return words
