"""API keys: loading them, proving at start that each is the account's, and the one source of its nonces.

A key belongs to one gateway process: two writers of one key only fight over its nonces.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from gateway_lighter.limits import Tier, VolumeQuota
from gateway_lighter.native_signer import EXPIRY_AHEAD_MS, open_signer
from gateway_lighter.nonces import NonceFate, NonceLease, NoncePool
from gateway_lighter.rest import LighterRest
from gateway_lighter.schnorr import PrivateKey
from gateway_lighter.settings import AccountSettings, ApiKeySettings, GatewaySettings
from gateway_lighter.signing import SignedTransaction, Signer, TokenSource
from gateway_lighter.transactions import Attributes, Transaction
from venuemesh.clock import Clock
from venuemesh.errors import AuthenticationFailed
from venuemesh.gateway.venue import Reservation
from venuemesh.secrets import read_secret

log = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
SKIPPING: Final = Attributes(skip_nonce=True)
"""Any nonce above the key's last one will do, so that a lost transaction blocks nothing."""
_KEPT_AFTER_EXPIRY_NS = 60 * 1_000_000_000


class Wallet:
    """The keys of one account, with their nonces and what is known of its volume quota."""

    def __init__(self, account: AccountSettings, signers: Mapping[int, Signer], clock: Clock) -> None:
        self.account = account
        self.signers = signers
        self.tokens = TokenSource(next(iter(signers.values())), clock)
        self.quota = VolumeQuota()
        self.pool = NoncePool(tuple(signers))
        self._clock = clock
        self._reserved: dict[int, tuple[NonceLease, int]] = {}

    def reserve(self, expires_ns: int) -> Reservation:
        """The next nonce of the least busy key, to be written down before it is used.

        Raises:
            Unavailable: every key must ask the venue first.
        """
        now_ns = self._clock.now_ns()
        self._forget_unused(now_ns)
        if any(signer.chooses_expiry for signer in self.signers.values()):
            # It is set at signing, which follows within the life of the reservation.
            expires_ns += EXPIRY_AHEAD_MS * NS_PER_MS
        lease = self.pool.lease(now_ns // NS_PER_MS)
        self._reserved[lease.number] = (lease, expires_ns)
        return Reservation(nonce=lease.number, expires_ns=expires_ns // NS_PER_MS * NS_PER_MS)

    def take(self, reservation: Reservation | None, count: int = 1) -> list[NonceLease]:
        """The nonce of a reservation, or another one where that is no longer good; the following ones too for a batch.

        Only the first of a batch is in the journal. The rest need not be: they follow the clock's milliseconds, which
        are past them before a new process can give out its first, and a nonce that is too low is refused unread.

        Raises:
            Unavailable: every key must ask the venue first.
        """
        return self.pool.lease_run(self._take_one(reservation), count, self._clock.now_ns() // NS_PER_MS)

    def _take_one(self, reservation: Reservation | None) -> NonceLease:
        if reservation is not None and (kept := self._reserved.pop(reservation.nonce, None)) is not None:
            lease, _ = kept
            if self.pool.is_current(lease):
                return lease
            self.pool.settle(lease, NonceFate.UNSPENT)
        return self.pool.lease(self._clock.now_ns() // NS_PER_MS)

    def sign(
        self,
        transaction: Transaction,
        lease: NonceLease,
        *,
        expired_at_ms: int,
        attributes: Attributes = SKIPPING,
    ) -> SignedTransaction:
        """Check and sign. Raises InvalidOrder for what the venue would refuse."""
        signer = self.signers[lease.api_key_index]
        return signer.sign(transaction, nonce=lease.nonce, expired_at_ms=expired_at_ms, attributes=attributes)

    async def resynchronize(self, rest: LighterRest) -> None:
        """Ask the venue for the next nonce of every key that needs it.

        Raises:
            MeshError: it could not be asked.
        """
        for index in self.pool.out_of_step():
            nonce = await rest.fetch_next_nonce(self.account.account_index, index)
            self.pool.source(index).synchronize(nonce)
            log.info("nonce_synchronized", extra={"account_id": self.account.account_id, "api_key_index": index})

    def _forget_unused(self, now_ns: int) -> None:
        """Reservations that were never sent: journal or caller gave up."""
        for number, (lease, expires_ns) in list(self._reserved.items()):
            if now_ns > expires_ns + _KEPT_AFTER_EXPIRY_NS:
                del self._reserved[number]
                self.pool.settle(lease, NonceFate.UNSPENT)


def load_wallets(settings: GatewaySettings, clock: Clock) -> Mapping[str, Wallet]:
    """Wallets by account id.

    Raises:
        SecretError: a file cannot be read.
        AuthenticationFailed: a file holds no key.
    """
    return {
        account.account_id: Wallet(account, {key.index: _signer(settings, account, key) for key in account.keys}, clock)
        for account in settings.accounts
    }


def _signer(settings: GatewaySettings, account: AccountSettings, key: ApiKeySettings) -> Signer:
    try:
        private = PrivateKey(read_secret(key.file).reveal())
    except AuthenticationFailed as error:
        raise AuthenticationFailed(f"account {account.account_id}: {key.file}: {error.message}") from None
    return open_signer(
        private,
        chain_id=settings.chain_id,
        account_index=account.account_index,
        api_key_index=key.index,
        native=settings.native_signer,
    )


async def verify_wallet(rest: LighterRest, wallet: Wallet, tier: Tier) -> None:
    """Ask the venue whose account it is, which keys it has, and whether the limits are those of `tier`.

    Another tier is only said in the log: the limits are then too tight, or the venue's are met first.

    Raises:
        AuthenticationFailed: account, owner and keys do not belong together.
        MeshError: the venue could not be asked.
    """
    account = wallet.account
    found = await rest.fetch_account(account.account_index)
    if found.l1_address.lower() != account.l1_address:
        raise _refused(wallet, f"the venue names another owner, {found.l1_address}")
    known = {key.api_key_index: key.public_key for key in await rest.fetch_api_keys(account.account_index)}
    for index, signer in wallet.signers.items():
        if index not in known:
            raise _refused(wallet, f"API key {index} is not registered")
        if known[index].lower().removeprefix("0x") != signer.public_key.lower():
            raise _refused(wallet, f"API key {index} is another key at the venue")
    found_tier = (await rest.fetch_account_limits(account.account_index)).user_tier
    if found_tier != tier:
        log.error(
            "tier_differs", extra={"account_id": account.account_id, "configured": tier.value, "venue": found_tier}
        )


def _refused(wallet: Wallet, why: str) -> AuthenticationFailed:
    account = wallet.account
    return AuthenticationFailed(
        f"account {account.account_id}: account index {account.account_index}, owner {account.l1_address}: {why}",
        metadata={"account_id": account.account_id, "account_index": str(account.account_index)},
    )
