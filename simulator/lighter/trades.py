"""Trades as the venue shows them, public and own; bounded. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from simulator.engine.engine import Engine
from simulator.engine.events import Fill, Trade
from simulator.engine.values import ZERO, Side
from simulator.lighter.accounts import Accounts, account_index
from simulator.lighter.markets import FEE_TICKS, LIQUIDATION_FEE, MARGIN_TICKS, Markets, MarketSpec, money
from simulator.lighter.orders import OrderViews, height

KEPT_PER_MARKET = 2000
KEPT_PER_ACCOUNT = 5000


@dataclass(slots=True, kw_only=True)
class TradeRecord:
    """One match with what a row needs. `pnl` is filled in as the sides settle."""

    trade: Trade
    spec: MarketSpec
    tx_hash: str
    micros: int
    versions: tuple[int, int]
    fractions: tuple[int, int]
    pnl: dict[str, Decimal]
    integrators: dict[str, tuple[int, int]]

    @property
    def liquidation(self) -> bool:
        """Whether it closed a liquidated position."""
        return self.trade.liquidated is not None


def system_hash(sequence: int, now_ms: int) -> str:
    """Hash of a match no client's transaction made: digits padded with zeros."""
    return f"{sequence & 0xFFFFFFFFFFFFFFFF:016x}{now_ms:016x}".ljust(80, "0")


class Tape:
    """Past trades by market and by account."""

    def __init__(self, engine: Engine, markets: Markets, accounts: Accounts, orders: OrderViews) -> None:
        self._engine = engine
        self._markets = markets
        self._accounts = accounts
        self._orders = orders
        self._by_market: dict[int, deque[TradeRecord]] = {}
        self._by_account: dict[str, deque[TradeRecord]] = {}

    def of_market(self, market_id: int) -> Sequence[TradeRecord]:
        """Trades of a market, oldest first."""
        return self._by_market.get(market_id, ())

    def of_account(self, name: str) -> Sequence[TradeRecord]:
        """Trades of an account, oldest first."""
        return self._by_account.get(name, ())

    def record(self, trade: Trade, tx_hash: str, micros: int) -> TradeRecord:
        """Keep a trade; `tx_hash` is empty for matches the venue made itself."""
        spec = self._markets.by_key[trade.instrument]
        found = TradeRecord(
            trade=trade,
            spec=spec,
            tx_hash=tx_hash or system_hash(trade.trade_id, trade.time_ms),
            micros=micros,
            versions=(self._version(trade.sell.order_id), self._version(trade.buy.order_id)),
            fractions=(self._fraction(spec, trade.seller), self._fraction(spec, trade.buyer)),
            pnl={},
            integrators={},
        )
        self._by_market.setdefault(spec.market_id, deque(maxlen=KEPT_PER_MARKET)).append(found)
        for name in {trade.seller, trade.buyer}:
            if not self._engine.accounts[name].house:
                self._by_account.setdefault(name, deque(maxlen=KEPT_PER_ACCOUNT)).append(found)
        return found

    def settle(self, fill: Fill) -> None:
        """Add what a side made of its trade."""
        for record in reversed(self._by_account.get(fill.account, ())):
            if record.trade.trade_id == fill.trade_id:
                record.pnl[fill.account] = fill.closed_pnl
                extra = self._orders.extras.of(fill.order_id)
                if extra is not None and extra.integrator:
                    ticks = extra.integrator_taker if fill.taker else extra.integrator_maker
                    record.integrators["taker" if fill.taker else "maker"] = (ticks, extra.integrator)
                return

    def _version(self, order_id: int) -> int:
        extra = self._orders.extras.of(order_id)
        return extra.version if extra else 0

    def _fraction(self, spec: MarketSpec, name: str) -> int:
        if spec.spot:
            return 0
        setting = self._engine.accounts[name].ledger("lighter").setting(self._engine.markets[spec.key].instrument)
        return int(setting.initial_margin(Decimal(MARGIN_TICKS)))

    def _ticks(self, name: str, *, taker: bool) -> int:
        if self._engine.accounts[name].house:
            return 0
        account = self._accounts.find(account_index(name))
        if account is None:
            return 0
        return account.tier.taker_ticks if taker else account.tier.maker_ticks

    def row(self, record: TradeRecord, viewer: str = "") -> dict[str, Any]:
        """A trade object; for a `viewer` with the profit of its own side."""
        trade, spec = record.trade, record.spec
        ask_index = spec.order_index(trade.sell.order_id, is_ask=True)
        bid_index = spec.order_index(trade.buy.order_id, is_ask=False)
        ask_client, bid_client = int(trade.sell.client_id or 0), int(trade.buy.client_id or 0)
        maker_ask = trade.side is Side.BUY
        row: dict[str, Any] = {
            "trade_id": trade.trade_id,
            "trade_id_str": str(trade.trade_id),
            "tx_hash": record.tx_hash,
            "type": "liquidation" if record.liquidation else "trade",
            "market_id": spec.market_id,
            "size": spec.size_text(trade.quantity),
            "price": spec.price_text(trade.price),
            "usd_amount": money(trade.quantity * trade.price),
            "ask_id": ask_index,
            "ask_id_str": str(ask_index),
            "bid_id": bid_index,
            "bid_id_str": str(bid_index),
            "ask_client_id": ask_client,
            "ask_client_id_str": str(ask_client),
            "bid_client_id": bid_client,
            "bid_client_id_str": str(bid_client),
            "ask_account_id": account_index(trade.seller),
            "bid_account_id": account_index(trade.buyer),
            "is_maker_ask": maker_ask,
            "block_height": height(trade.time_ms),
            "timestamp": trade.time_ms,
        }
        for role, selling in (("taker", not maker_ask), ("maker", maker_ask)):
            row |= self._role(record, role, selling=selling)
        row["transaction_time"] = record.micros
        row["ask_order_version"], row["bid_order_version"] = record.versions
        if viewer:
            row |= self._own(record, viewer)
        return row

    def _role(self, record: TradeRecord, role: str, *, selling: bool) -> dict[str, Any]:
        """Fields of the taker or the maker; zero ones are left out, as the venue does."""
        trade, spec = record.trade, record.spec
        side, name = (trade.sell, trade.seller) if selling else (trade.buy, trade.buyer)
        ticks = self._ticks(name, taker=role == "taker")
        if record.liquidation and role == "taker":
            ticks += int(LIQUIDATION_FEE * FEE_TICKS)
        found: dict[str, Any] = {f"{role}_fee": ticks} if ticks else {}
        found[f"{role}_position_size_before"] = spec.size_text(side.position)
        found[f"{role}_entry_quote_before"] = money(abs(side.position) * side.entry_price)
        fraction = record.fractions[0 if selling else 1]
        if fraction:
            found[f"{role}_initial_margin_fraction_before"] = fraction
        after = side.position + trade.quantity * (-1 if selling else 1)
        if side.position * after < 0 or (side.position == 0 and after < 0):
            found[f"{role}_position_sign_changed"] = True
        return found

    def _own(self, record: TradeRecord, viewer: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, name in (("ask_account_pnl", record.trade.seller), ("bid_account_pnl", record.trade.buyer)):
            pnl = record.pnl.get(name, ZERO)
            if name == viewer and pnl:
                found[key] = money(pnl)
        for role, (ticks, collector) in record.integrators.items():
            found[f"integrator_{role}_fee"] = ticks
            found[f"integrator_{role}_fee_collector_index"] = collector
        return found
