"""The venue behind the front: accounts, markets, and the sequencer that takes and executes transactions. Pure.

A transaction is checked, given a hash and queued; it takes effect when its delay is over. The engine is the one
every front shares. Time is always given.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec

from simulator.engine.chance import Chance
from simulator.engine.engine import SPOT_WALLET, Engine
from simulator.engine.events import (
    BalanceChanged,
    BookChanged,
    Change,
    Event,
    Fill,
    FundingPaid,
    Liquidated,
    OrderChanged,
    PositionChanged,
    PriceChanged,
    Trade,
    Transferred,
)
from simulator.engine.market import Market
from simulator.engine.population import Population, PopulationSettings
from simulator.engine.upkeep import Upkeep
from simulator.engine.values import Reason
from simulator.lighter import auth
from simulator.lighter.accounts import (
    LAST_ACCOUNT,
    MAX_API_KEY,
    TIERS,
    Accounts,
    ApiKey,
    LighterAccount,
    account_index,
    account_name,
    fee_share,
)
from simulator.lighter.batch import Batch
from simulator.lighter.errors import Code, Refused
from simulator.lighter.market_feed import MarketFeeds
from simulator.lighter.markets import POOL, Markets, MarketSpec
from simulator.lighter.orders import OrderViews, TimeInForceCode
from simulator.lighter.quota import CHARGED
from simulator.lighter.signing import schnorr
from simulator.lighter.trades import Tape
from simulator.lighter.transaction_log import Record, TransactionLog
from simulator.lighter.transactions import Transaction, TxType, parse
from simulator.lighter.twap import Twaps

MAKER = account_name(LAST_ACCOUNT - 68_702)
TAKER = account_name(LAST_ACCOUNT - 71_014)
HOUSE = account_name(LAST_ACCOUNT - 71_015)
DELAYED = frozenset(
    {
        TxType.CREATE_ORDER,
        TxType.CREATE_GROUPED_ORDERS,
        TxType.CANCEL_ORDER,
        TxType.CANCEL_ALL_ORDERS,
        TxType.MODIFY_ORDER,
    }
)
"""Only what touches orders is held back (an assumption for the rest)."""
KEPT_EXPIRIES = 10_000  # beyond twice what is live, expiries of orders that are done are dropped
MAX_BATCH = 50
MAX_PENDING = 1000
LONGEST_LIFE_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LighterSettings:
    """Front behaviour.

    Args:
        chain_id: part of every signed hash; 304 is the venue's main network.
        verify: False skips signatures, for load tests only; the status answer says so.
        delays: whether the tier's delays apply; without them a transaction takes effect before its answer.
        modify_counts_filled: whether the new size of a modify includes what is already filled. No source says;
            an assumption.
    """

    chain_id: int = 304
    verify: bool = True
    delays: bool = True
    modify_counts_filled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A transaction was taken."""

    tx_hash: str
    predicted_ms: int
    record: Record


Executor = Callable[["LighterVenue", Record, int], dict[str, Any]]
Checker = Callable[["LighterVenue", LighterAccount, Transaction, int], None]


@dataclass(slots=True)
class _Queue:
    """What falls due: executions and order expiries, by time, then by arrival."""

    due: list[tuple[int, int, Record]] = field(default_factory=list)
    expiries: list[tuple[int, int]] = field(default_factory=list)
    last_of_key: dict[tuple[int, int], int] = field(default_factory=dict)
    pending: dict[int, int] = field(default_factory=dict)
    expiries_limit: int = KEPT_EXPIRIES


class LighterVenue:
    """One simulated Lighter on a shared engine.

    Args:
        engine, upkeep: shared with the other fronts; this one lists its own instruments on it.
        population: liveliness of its markets, beside the other venue's.
        chance: source of its synthetic traders' randomness, its own.
        now_ms: when it opens.
        check: rules a transaction must meet to be taken; see `admission.check`.
        executors: what each transaction type does; see `execution.EXECUTORS`.
        spot: whether the spot market is listed.
    """

    def __init__(
        self,
        engine: Engine,
        upkeep: Upkeep,
        settings: LighterSettings,
        population: PopulationSettings,
        chance: Chance,
        now_ms: int,
        *,
        check: Checker,
        executors: Mapping[TxType, Executor],
        spot: bool = True,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.upkeep = upkeep
        self.markets = Markets(spot=spot)
        engine.list_instruments(spec.instrument() for spec in self.markets.all)
        follows = {spec.key: spec.follows for spec in self.markets.all if spec.follows in engine.markets}
        self.population = Population(
            engine,
            upkeep,
            chance,
            population,
            maker=MAKER,
            taker=TAKER,
            keys=[spec.key for spec in self.markets.all],
            follows={key: source for key, source in follows.items() if source is not None},
        )
        engine.open_account(HOUSE, house=True)
        self.accounts = Accounts()
        self.orders = OrderViews(engine, self.markets)
        self.log = TransactionLog(now_ms * 10)
        self.twaps = Twaps(engine, self.orders)
        self.tape = Tape(engine, self.markets, self.accounts, self.orders)
        self.feeds = MarketFeeds(engine, self.markets, now_ms)
        self._check = check
        self._executors = executors
        self._queue = _Queue()
        self._last_us = 0
        self._events = engine.reader(self._concerns)
        self._batch = Batch()
        self._changed_books: dict[int, None] = {}
        self.population.warm_up(now_ms)
        self._events.drain()
        self.feeds.start(self.micros(now_ms))

    def _concerns(self, event: Event) -> bool:
        """Whether an event is about this venue's markets or accounts."""
        match event:
            case OrderChanged():
                return event.order.request.instrument in self.markets.by_key
            case _:
                key = getattr(event, "instrument", "")
                return key in self.markets.by_key or getattr(event, "account", "").startswith(f"{POOL}:")

    # -- accounts --------------------------------------------------------------------------------------------

    def open_account(
        self,
        index: int,
        l1_address: str,
        keys: Mapping[int, bytes],
        now_ms: int,
        *,
        usdc: Decimal = Decimal(0),
        spot: Mapping[str, Decimal] | None = None,
    ) -> LighterAccount:
        """A configured account, its keys registered and its money deposited.

        Raises:
            ValueError: the index is taken, or a key is not one.
        """
        micros = self.micros(now_ms)
        account = LighterAccount(index=index, l1_address=l1_address, changed_us=micros)
        for number, public_key in keys.items():
            if not schnorr.prepare(public_key):
                raise ValueError(f"API key {number} of account {index} is not a public key")
            account.keys[number] = ApiKey(index=number, public_key=public_key, next_nonce=1, changed_us=micros)
        self.accounts.add(account)
        self.engine.open_account(account.name)
        self.deposit(index, usdc, now_ms)
        for token, amount in (spot or {}).items():
            self.engine.deposit(account.name, SPOT_WALLET, token, amount, now_ms)
        return account

    def deposit(self, index: int, usdc: Decimal, now_ms: int) -> None:
        """Bring perpetual collateral in."""
        if usdc:
            self.engine.deposit(account_name(index), POOL, "USDC", usdc, now_ms)

    def set_tier(self, account: LighterAccount, tier: str, now_ms: int) -> None:
        """Move an account, and those of its owner, to a tier; `KeyError` for an unknown one."""
        found = TIERS[tier]
        for item in self.accounts.of_owner(account.l1_address):
            item.tier, item.tier_changed_s = found, now_ms // 1000
            owner = self.engine.open_account(item.name)
            owner.maker_fee, owner.taker_fee = fee_share(found.maker_ticks), fee_share(found.taker_ticks)

    def micros(self, now_ms: int) -> int:
        """Microseconds that only grow."""
        self._last_us = max(self._last_us + 1, now_ms * 1000)
        return self._last_us

    def market(self, spec: MarketSpec) -> Market:
        """Engine market of a product."""
        return self.engine.markets[spec.key]

    def check_token(self, token: str, now_ms: int) -> int:
        """Account an auth token speaks for; see `auth.check_token`."""
        return auth.check_token(token, now_ms, self.accounts.public_key)

    # -- taking transactions ---------------------------------------------------------------------------------

    def spend_nonce(self, account: int, api_key: int) -> None:
        """Count a nonce as used, as if another client of the key had sent something."""
        found = self.accounts.find(account)
        key = found.keys.get(api_key) if found else None
        if key is not None:
            key.next_nonce += 1

    @property
    def changed_markets(self) -> list[MarketSpec]:
        """Markets whose book changed since the last batch."""
        return [self.markets.by_id[market_id] for market_id in self._changed_books]

    def send(self, tx_type: int, info: str | Mapping[str, Any], now_ms: int) -> Sent:
        """Check a transaction, spend its nonce and queue it.

        Raises:
            Refused: at once; the nonce is not spent.
        """
        return self._take(self._admit(parse(tx_type, info), now_ms), now_ms)

    def send_batch(self, types: list[int], infos: list[str], now_ms: int) -> list[Sent]:
        """Several transactions of one account and key; all are taken or none.

        Raises:
            Refused: the first reason found.
        """
        if len(types) != len(infos):
            raise Refused(Code.BATCH_LENGTHS)
        if not types or len(types) > MAX_BATCH:
            raise Refused(Code.BATCH_TOO_LONG)
        transactions = [parse(kind, info) for kind, info in zip(types, infos, strict=True)]
        first = transactions[0]
        if any((tx.account, tx.api_key) != (first.account, first.api_key) for tx in transactions):
            raise Refused(Code.BATCH_KEYS)
        if any(after.nonce != before.nonce + 1 for before, after in pairwise(transactions)):
            raise Refused(Code.BATCH_NONCE)
        admitted = [self._admit(tx, now_ms, offset=place) for place, tx in enumerate(transactions)]
        return [self._take(item, now_ms) for item in admitted]

    def _admit(self, tx: Transaction, now_ms: int, *, offset: int = 0) -> tuple[Transaction, str]:
        """Every check that answers at once: account, key, signature, nonce, age, shape."""
        account = self.accounts.find(tx.account)
        if account is None:
            raise Refused(Code.ACCOUNT_NOT_FOUND)
        if tx.api_key > MAX_API_KEY:
            raise Refused(Code.INVALID_API_KEY_INDEX)
        words = tx.words(self.settings.chain_id)
        key = account.keys.get(tx.api_key)
        signer = tx.public_key if tx.type is TxType.CHANGE_PUB_KEY else key.public_key if key else None
        if signer is None:
            raise Refused(Code.API_KEY_NOT_FOUND)
        if self.settings.verify and not schnorr.verify(words, tx.signature, signer):
            raise Refused(Code.INVALID_SIGNATURE)
        nonce = tx.nonce - offset
        if key is not None:
            key.check(nonce, skip=tx.skip_nonce)
        elif nonce != 0 and not tx.skip_nonce:
            raise Refused(Code.INVALID_NONCE)
        if not now_ms <= tx.expired_at <= now_ms + LONGEST_LIFE_MS:
            raise Refused(Code.INVALID_TX_INFO)
        if self._queue.pending.get(tx.account, 0) >= MAX_PENDING:
            raise Refused(Code.TOO_MANY_PENDING)
        if account.has_quota:
            account.quota.check(tx, now_ms, ahead=offset)
        self._check(self, account, tx, now_ms)
        return tx, schnorr.message_bytes(words).hex()

    def _take(self, admitted: tuple[Transaction, str], now_ms: int) -> Sent:
        tx, tx_hash = admitted
        account = self.accounts.get(tx.account)
        key = account.keys.get(tx.api_key)
        if key is not None:
            key.next_nonce = tx.nonce + 1
        if account.has_quota:
            account.quota.spend(tx, now_ms)
        due_ms = self._due(account, tx, now_ms)
        record = self.log.add(tx, tx_hash, now_ms, due_ms, account.l1_address)
        self._queue.pending[tx.account] = self._queue.pending.get(tx.account, 0) + 1
        heapq.heappush(self._queue.due, (due_ms, record.sequence, record))
        return Sent(tx_hash=tx_hash, predicted_ms=due_ms, record=record)

    def _due(self, account: LighterAccount, tx: Transaction, now_ms: int) -> int:
        """When it takes effect: the tier's delay, and never before what its key sent earlier (an assumption)."""
        if not self.settings.delays or tx.type not in DELAYED:
            return now_ms
        making = tx.type in (TxType.CANCEL_ORDER, TxType.CANCEL_ALL_ORDERS, TxType.MODIFY_ORDER) or (
            tx.type is TxType.CREATE_ORDER and tx.fields["TimeInForce"] == TimeInForceCode.POST_ONLY
        )
        delay = account.tier.maker_delay_ms if making else account.tier.taker_delay_ms
        key = (tx.account, tx.api_key)
        due_ms = max(now_ms + delay, self._queue.last_of_key.get(key, 0))
        self._queue.last_of_key[key] = due_ms
        return due_ms

    def quota_answer(self, taken: list[Sent]) -> dict[str, Any]:
        """What the answer says of the volume quota; nothing for a standard account."""
        account = self.accounts.get(taken[0].record.tx.account)
        if not account.has_quota:
            return {}
        charged = any(item.record.tx.type in CHARGED for item in taken)
        left = f"{account.quota.units} volume quota remaining." if charged else "didn't use volume quota"
        message = msgspec.json.encode({"ratelimit": left}).decode()
        return {"message": message, "volume_quota_remaining": account.quota.units}

    # -- letting time pass -----------------------------------------------------------------------------------

    @property
    def next_due_ms(self) -> int | None:
        """When the next queued transaction takes effect."""
        return self._queue.due[0][0] if self._queue.due else None

    def watch_expiry(self, engine_id: int, expiry_ms: int) -> None:
        """End an order at `expiry_ms` unless it is done by then."""
        expiries = self._queue.expiries
        heapq.heappush(expiries, (expiry_ms, engine_id))
        if len(expiries) > self._queue.expiries_limit:
            orders = ((item, self.engine.order(item[1])) for item in expiries)
            expiries[:] = [item for item, order in orders if order is not None and order.state.live]
            heapq.heapify(expiries)
            self._queue.expiries_limit = max(KEPT_EXPIRIES, 2 * len(expiries))

    def run_due(self, now_ms: int) -> None:
        """Execute what is due, in order."""
        while self._queue.due and self._queue.due[0][0] <= now_ms:
            _, _, record = heapq.heappop(self._queue.due)
            self.collect("", now_ms)
            self._execute(record, now_ms)
            self.collect(record.hash, now_ms)
            self._batch.records[record.tx.account].append(record)

    def _execute(self, record: Record, now_ms: int) -> None:
        self._queue.pending[record.tx.account] -= 1
        try:
            if record.forced:
                raise Refused(record.forced)
            event = self._executors[record.tx.type](self, record, now_ms)
            event.setdefault("ae", "")
        except Refused as refusal:
            event = {"ae": msgspec.json.encode(refusal.body).decode()}
        record.event = event
        record.executed_ms, record.executed_us = now_ms, self.micros(now_ms)

    def step(self, now_ms: int) -> None:
        """Let time pass: queued transactions, expiries, scheduled cancels, then the synthetic traders."""
        self.run_due(now_ms)
        self.twaps.run(now_ms)
        while self._queue.expiries and self._queue.expiries[0][0] <= now_ms:
            _, engine_id = heapq.heappop(self._queue.expiries)
            order = self.engine.order(engine_id)
            extra = self.orders.extras.of(engine_id)
            if order is not None and extra is not None and extra.expiry_ms <= now_ms:
                self.engine.cancel(order.account, engine_id, now_ms, Reason.EXPIRED)
        for account in self.accounts:
            if account.cancel_all_ms and account.cancel_all_ms <= now_ms:
                account.cancel_all_ms = 0
                self.engine.cancel_all(account.name, now_ms, Reason.SCHEDULED)
        self.population.step(now_ms)
        self._batch.tick = True

    def touch(self, name: str, market_id: int) -> None:
        """An account's setting of a market changed without an event of the engine."""
        self._batch.touched.add(name)
        self._batch.positions[name].add(market_id)

    def follow(self, now_ms: int) -> None:
        """Take over reference prices another front's market moved to, and re-quote there."""
        self.population.quote(self.population.follow(now_ms), now_ms)

    # -- telling ---------------------------------------------------------------------------------------------

    def batch(self, now_ms: int) -> Batch:
        """What happened since the last call."""
        self.collect("", now_ms)
        found, self._batch = self._batch, Batch()
        for market_id in self._changed_books:
            delta = self.feeds.advance(self.markets.by_id[market_id], self.micros(now_ms))
            if delta is not None:
                found.books[market_id] = delta
        self._changed_books.clear()
        return found

    def collect(self, tx_hash: str, now_ms: int) -> None:
        """Sort the engine's events into the batch; `tx_hash` is the transaction that made them, if one did."""
        for event in self._events.drain():
            self._sort(event, tx_hash, now_ms)

    def _sort(self, event: Event, tx_hash: str, now_ms: int) -> None:
        batch = self._batch
        match event:
            case OrderChanged():
                extra = self.orders.extras.of(event.order.order_id)
                if extra is not None:
                    extra.changed_us = self.micros(now_ms)
                    if event.change is Change.TRIGGERED:
                        extra.trigger_ms = now_ms
                batch.orders[event.order.account].append(event)
                batch.touched.add(event.order.account)
            case Trade():
                record = self.tape.record(event, tx_hash, self.micros(now_ms))
                batch.trades[record.spec.market_id].append(record)
                for name in {event.buyer, event.seller}:
                    if not self.engine.accounts[name].house:
                        batch.own_trades[name].append(record)
                if event.liquidated is not None:
                    batch.liquidations[event.liquidated].append(record)
            case Fill():
                self.tape.settle(event)
                owner = self.accounts.find(account_index(event.account))
                if owner is not None and owner.has_quota:
                    owner.quota.earn(event.quantity * event.price)
                batch.touched.add(event.account)
            case BookChanged():
                self._changed_books[self.markets.by_key[event.instrument].market_id] = None
            case PriceChanged():
                batch.prices.add(self.markets.by_key[event.instrument].market_id)
            case FundingPaid():
                batch.fundings[event.account].append(event)
                batch.touched.add(event.account)
            case PositionChanged():
                batch.positions[event.account].add(self.markets.by_key[event.instrument].market_id)
                batch.touched.add(event.account)
            case BalanceChanged() | Liquidated() | Transferred():
                batch.touched.add(event.account)
                if isinstance(event, Transferred):
                    batch.touched.add(event.counterparty)
