"""Accounts, API keys, nonces, tiers and integrator approvals of the venue. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.lighter.errors import Code, Refused
from simulator.lighter.markets import FEE_TICKS, POOL
from simulator.lighter.quota import Quota

FIRST_SUB_ACCOUNT = 1 << 47
LAST_ACCOUNT = (1 << 48) - 2
MAX_API_KEY = 254
ALL_KEYS = 255
MAX_SKIPPED_NONCE = (1 << 47) - 1
MAX_SUB_ACCOUNTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Fees in ticks of 1e-6, and how long the sequencer holds what may take and what can only make."""

    name: str
    maker_ticks: int
    taker_ticks: int
    taker_delay_ms: int
    maker_delay_ms: int


TIERS = {
    tier.name: tier
    for tier in (
        Tier(name="standard", maker_ticks=0, taker_ticks=0, taker_delay_ms=300, maker_delay_ms=200),
        Tier(name="premium", maker_ticks=40, taker_ticks=280, taker_delay_ms=200, maker_delay_ms=0),
        Tier(name="plus", maker_ticks=50, taker_ticks=50, taker_delay_ms=300, maker_delay_ms=200),
    )
}


@dataclass(slots=True, kw_only=True)
class ApiKey:
    """A registered key; `next_nonce` is what the next transaction must carry."""

    index: int
    public_key: bytes
    next_nonce: int
    changed_us: int

    def check(self, nonce: int, *, skip: bool) -> None:
        """Refuse a nonce that may not be used now.

        Raises:
            Refused: 21104; the counter stays.
        """
        if skip and self.next_nonce <= nonce < MAX_SKIPPED_NONCE:
            return
        if nonce != self.next_nonce:
            raise Refused(Code.INVALID_NONCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Caps an integrator may charge, in fee ticks."""

    integrator: int
    perps_taker: int
    perps_maker: int
    spot_taker: int
    spot_maker: int
    expiry_ms: int


@dataclass(slots=True, kw_only=True)
class LighterAccount:
    """One account of the venue: what the engine does not know of it."""

    index: int
    l1_address: str
    tier: Tier = TIERS["standard"]
    keys: dict[int, ApiKey] = field(default_factory=dict)
    approvals: dict[int, Approval] = field(default_factory=dict)
    pool: bool = False
    quota: Quota = field(default_factory=Quota)
    trading_mode: int = 0
    cancel_all_ms: int = 0
    margin_set: set[int] = field(default_factory=set)
    tier_changed_s: int = 0
    changed_us: int = 0
    orders_sent: int = 0

    @property
    def name(self) -> str:
        """Name in the engine."""
        return account_name(self.index)

    @property
    def has_quota(self) -> bool:
        """Whether it pays for orders in volume: every tier but the standard one."""
        return self.tier.name != "standard"

    @property
    def type(self) -> int:
        """0 master, 1 sub-account, 2 public pool."""
        return 2 if self.pool else int(self.sub_account)

    @property
    def sub_account(self) -> bool:
        """Whether it hangs below a master account."""
        return self.index >= FIRST_SUB_ACCOUNT


def account_name(index: int) -> str:
    """Engine name of an account."""
    return f"{POOL}:{index}"


def account_index(name: str) -> int:
    """Account index of an engine name."""
    return int(name.removeprefix(f"{POOL}:"))


class Accounts:
    """All accounts, by index and by L1 address."""

    def __init__(self) -> None:
        self._by_index: dict[int, LighterAccount] = {}
        self._next_sub = LAST_ACCOUNT - 1_000_000

    def __iter__(self) -> Iterator[LighterAccount]:
        return iter(self._by_index.values())

    def find(self, index: int) -> LighterAccount | None:
        """An account, None when unknown."""
        return self._by_index.get(index)

    def get(self, index: int) -> LighterAccount:
        """An account.

        Raises:
            Refused: 21100.
        """
        found = self._by_index.get(index)
        if found is None:
            raise Refused(Code.ACCOUNT_NOT_FOUND)
        return found

    def add(self, account: LighterAccount) -> LighterAccount:
        """Open an account.

        Raises:
            ValueError: the index is taken.
        """
        if account.index in self._by_index:
            raise ValueError(f"account {account.index} exists")
        self._by_index[account.index] = account
        return account

    def add_sub(self, master: LighterAccount, micros: int) -> LighterAccount:
        """Open the next sub-account of a master.

        Raises:
            Refused: 21123 below a sub-account, 21129 when there are too many.
        """
        if master.sub_account:
            raise Refused(Code.INVALID_ACCOUNT_TYPE)
        if len(self.of_owner(master.l1_address)) > MAX_SUB_ACCOUNTS:
            raise Refused(Code.TOO_MANY_SUB_ACCOUNTS)
        self._next_sub -= 1
        found = LighterAccount(index=self._next_sub, l1_address=master.l1_address, tier=master.tier, changed_us=micros)
        return self.add(found)

    def of_owner(self, l1_address: str) -> list[LighterAccount]:
        """Accounts of an L1 address, master first."""
        wanted = l1_address.lower()
        return sorted(
            (item for item in self._by_index.values() if item.l1_address.lower() == wanted), key=lambda a: a.index
        )

    def public_key(self, account: int, api_key: int) -> bytes | None:
        """Registered key, None when there is none."""
        owner = self._by_index.get(account)
        key = owner.keys.get(api_key) if owner else None
        return key.public_key if key else None


def fee_share(ticks: int) -> Decimal:
    """Fee ticks as a share of notional."""
    return Decimal(ticks) / FEE_TICKS
