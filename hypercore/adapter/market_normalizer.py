"""Instruments and market data of Hyperliquid in the words of the port and the contract. Pure.

Source: venue reference sections 1.1, 1.2, 2.1 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeAlias

from google.protobuf.duration_pb2 import Duration

from hypercore import messages as wire
from hypercore.account_messages import UserFees
from hypercore.adapter.normalizer import NS_PER_MS, side_of, timestamp_of_ms
from hypercore.assets import MAIN_DEX, Asset, MarginMode, Universe
from hypercore.precision import MAX_SIGNIFICANT_FIGURES, max_price_decimals, size_step
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.venue import BookSnapshot, Level, ReferencePrice
from venuemesh.gateway.venue_offers import FeeRates
from venuemesh.money import EXACT, divide, format_decimal
from venuemesh.v1 import instrument_pb2, market_data_pb2, stream_pb2

MIN_NOTIONAL: Final = "10"
"""Quote units; an order that closes a whole position is exempt."""

PERP_FEES: Final = ("0.00015", "0.00045")
SPOT_FEES: Final = ("0.0004", "0.0007")
"""Maker and taker at the base tier; builder dexes scale them."""
GROWTH_SHARE: Final = Decimal("0.1")
"""Of its fees, what an asset in growth mode takes."""

FUNDING_INTERVAL_S: Final = 3_600
_HOUR_NS: Final = FUNDING_INTERVAL_S * 1_000_000_000

Interval: TypeAlias = market_data_pb2.CandleInterval.ValueType

_M = market_data_pb2
INTERVALS: Final[dict[Interval, str]] = {
    _M.CANDLE_INTERVAL_1M: "1m",
    _M.CANDLE_INTERVAL_3M: "3m",
    _M.CANDLE_INTERVAL_5M: "5m",
    _M.CANDLE_INTERVAL_15M: "15m",
    _M.CANDLE_INTERVAL_30M: "30m",
    _M.CANDLE_INTERVAL_1H: "1h",
    _M.CANDLE_INTERVAL_2H: "2h",
    _M.CANDLE_INTERVAL_4H: "4h",
    _M.CANDLE_INTERVAL_8H: "8h",
    _M.CANDLE_INTERVAL_12H: "12h",
    _M.CANDLE_INTERVAL_1D: "1d",
    _M.CANDLE_INTERVAL_3D: "3d",
    _M.CANDLE_INTERVAL_1W: "1w",
    _M.CANDLE_INTERVAL_1MONTH: "1M",
}
"""Interval of the contract -> the venue's word; it has them all."""
_INTERVALS_BY_WORD = {word: interval for interval, word in INTERVALS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DexTerms:
    """What the venue says of a dex besides its list.

    Attributes:
        fee_scale: the deployer's; None where the venue does not say.
        open_interest_caps: quote units, by coin.
        at_cap: coins whose open interest is at its cap now.
    """

    fee_scale: Decimal | None = None
    open_interest_caps: Mapping[str, Decimal] = field(default_factory=dict)
    at_cap: frozenset[str] = frozenset()


NO_TERMS: Final = DexTerms()


def normalize_instrument(
    asset: Asset, *, venue: str, updated_ns: int, terms: DexTerms = NO_TERMS
) -> instrument_pb2.Instrument:
    """An asset with the rules its orders must keep."""
    instrument = instrument_pb2.Instrument(
        venue=venue,
        symbol=asset.symbol,
        venue_symbol=asset.coin,
        instrument_type=instrument_pb2.INSTRUMENT_TYPE_SPOT
        if asset.is_spot
        else instrument_pb2.INSTRUMENT_TYPE_PERPETUAL,
        base_asset=asset.base,
        quote_asset=asset.quote,
        settle_asset=asset.settle or asset.quote,
        state=instrument_pb2.INSTRUMENT_STATE_DELISTED
        if asset.is_delisted
        else instrument_pb2.INSTRUMENT_STATE_TRADING,
        price_rule=instrument_pb2.PriceRule(
            max_significant_figures=MAX_SIGNIFICANT_FIGURES,
            max_decimals=max_price_decimals(asset.sz_decimals, is_spot=asset.is_spot),
            integers_always_valid=True,
        ),
        quantity_rule=instrument_pb2.QuantityRule(
            step_size=format_decimal(size_step(asset.sz_decimals)),
            min_notional=MIN_NOTIONAL,
            close_exempt_from_min_notional=not asset.is_spot,
        ),
        contract_size="1",
        venue_section=asset.dex,
        updated_time=timestamp(updated_ns),
    )
    if asset.dex == MAIN_DEX:
        instrument.maker_fee_rate, instrument.taker_fee_rate = SPOT_FEES if asset.is_spot else PERP_FEES
    elif terms.fee_scale is not None:
        maker, taker = (builder_fee(rate, terms.fee_scale, growth=asset.growth_mode) for rate in PERP_FEES)
        instrument.maker_fee_rate, instrument.taker_fee_rate = maker, taker
    if not asset.is_spot:
        _add_perp_terms(instrument, asset)
        instrument.at_open_interest_cap = asset.coin in terms.at_cap
        if (cap := terms.open_interest_caps.get(asset.coin)) is not None:
            instrument.open_interest_cap = format_decimal(cap)
    return instrument


def account_fees(fees: UserFees, instrument: instrument_pb2.Instrument) -> FeeRates | None:
    """What an account pays for an instrument; None when the venue tells nothing about its kind.

    `userFees` gives the rates in force on the main dex; on a builder's they are scaled as the base rates are.
    """
    spot = instrument.instrument_type == instrument_pb2.INSTRUMENT_TYPE_SPOT
    maker = fees.user_spot_add_rate if spot else fees.user_add_rate
    taker = fees.user_spot_cross_rate if spot else fees.user_cross_rate
    if maker is None or taker is None or not instrument.HasField("taker_fee_rate"):
        return None
    base_maker, base_taker = (Decimal(rate) for rate in (SPOT_FEES if spot else PERP_FEES))
    return FeeRates(
        maker=divide(EXACT.multiply(maker, Decimal(instrument.maker_fee_rate)), base_maker),
        taker=divide(EXACT.multiply(taker, Decimal(instrument.taker_fee_rate)), base_taker),
    )


def builder_fee(rate: str, scale: Decimal, *, growth: bool) -> str:
    """A fee rate of a builder dex at the base tier, before discounts.

    The deployer's scale counts twice from 1 on, below it is added to 1; growth mode leaves a tenth.
    Source: trade.xyz reference section 5, checked there on recorded fills.
    """
    factor = EXACT.multiply(Decimal(2), scale) if scale >= 1 else EXACT.add(Decimal(1), scale)
    fee = EXACT.multiply(Decimal(rate), factor)
    return format_decimal(EXACT.multiply(fee, GROWTH_SHARE) if growth else fee)


def _add_perp_terms(instrument: instrument_pb2.Instrument, asset: Asset) -> None:
    modes = [instrument_pb2.MARGIN_MODE_ISOLATED]
    if not asset.only_isolated:
        modes.insert(0, instrument_pb2.MARGIN_MODE_CROSS)
    instrument.margin_modes.extend(modes)
    instrument.isolated_margin_removable = asset.margin_mode is not MarginMode.STRICT_ISOLATED
    instrument.max_leverage = str(asset.max_leverage)
    instrument.funding_interval.CopyFrom(Duration(seconds=FUNDING_INTERVAL_S))


# --- books -------------------------------------------------------------------------------------------------


def normalize_book(book: wire.L2Book, asset: Asset, *, received_ns: int) -> BookSnapshot:
    """A whole book as the venue sent it; `venuemesh.gateway.books.book_fault` says whether to believe it."""
    bids, asks = book.levels
    return BookSnapshot(
        symbol=asset.symbol,
        bids=[normalize_level(level) for level in bids],
        asks=[normalize_level(level) for level in asks],
        venue_time_ns=book.time * NS_PER_MS,
        received_ns=received_ns,
    )


def normalize_level(level: wire.Level) -> Level:
    """One price level."""
    return Level(price=level.px, quantity=level.sz, order_count=level.n)


# --- trades, candles, statistics ---------------------------------------------------------------------------


def normalize_trade(trade: wire.Trade, asset: Asset, *, venue: str, received_ns: int) -> market_data_pb2.Trade:
    """A public trade; the venue's side is the taker's."""
    return market_data_pb2.Trade(
        venue=venue,
        symbol=asset.symbol,
        trade_id=str(trade.tid),
        price=format_decimal(trade.px),
        quantity=format_decimal(trade.sz),
        aggressor_side=side_of(trade.side),
        venue_unix_nanos=trade.time * NS_PER_MS,
        received_unix_nanos=received_ns,
    )


def oldest_first(trades: Iterable[wire.Trade]) -> list[wire.Trade]:
    """Trades by venue time; of one instant in the order given."""
    return sorted(trades, key=lambda trade: trade.time)


def normalize_candle(candle: wire.Candle, asset: Asset, *, venue: str, now_ns: int) -> market_data_pb2.Candle | None:
    """A candle, complete when its interval is over by `now_ns`; None for an interval the contract lacks."""
    interval = _INTERVALS_BY_WORD.get(candle.interval)
    if interval is None:
        return None
    return market_data_pb2.Candle(
        venue=venue,
        symbol=asset.symbol,
        interval=interval,
        open_time=timestamp_of_ms(candle.open_time),
        open=format_decimal(candle.open),
        high=format_decimal(candle.high),
        low=format_decimal(candle.low),
        close=format_decimal(candle.close),
        volume=format_decimal(candle.volume),
        trade_count=candle.trades,
        complete=now_ns > candle.close_time * NS_PER_MS,
    )


def normalize_statistics(
    ctx: wire.AssetCtx | wire.SpotAssetCtx, asset: Asset, *, venue: str, received_ns: int
) -> market_data_pb2.MarketStatistics:
    """Live figures of an asset. Funding is the hourly rate and is paid on the hour; spot has none."""
    statistics = market_data_pb2.MarketStatistics(
        venue=venue,
        symbol=asset.symbol,
        mark_price=format_decimal(ctx.mark_px),
        quote_volume_24h=format_decimal(ctx.day_ntl_vlm),
        price_24h_ago=format_decimal(ctx.prev_day_px),
        received_time=timestamp(received_ns),
        freshness=stream_pb2.FRESHNESS_FRESH,
    )
    optional: dict[str, Decimal | None] = {"mid_price": ctx.mid_px, "volume_24h": ctx.day_base_vlm}
    if isinstance(ctx, wire.AssetCtx):
        optional |= {"index_price": ctx.oracle_px, "funding_rate": ctx.funding, "open_interest": ctx.open_interest}
        next_hour_ns = (received_ns // _HOUR_NS + 1) * _HOUR_NS
        statistics.next_funding_time.CopyFrom(timestamp(next_hour_ns))
    for name, value in optional.items():
        if value is not None:
            setattr(statistics, name, format_decimal(value))
    return statistics


def normalize_references(ctxs: Sequence[wire.AssetCtx], universe: Universe, dex: str) -> list[ReferencePrice]:
    """Reference prices of a dex, whose contexts stand in the order of its list; a row that is not listed yet is left
    out."""
    found = []
    for asset in universe.assets:
        if asset.is_spot or asset.dex != dex or asset.index >= len(ctxs):
            continue
        ctx = ctxs[asset.index]
        found.append(
            ReferencePrice(
                symbol=asset.symbol, oracle_price=ctx.oracle_px, mark_price=ctx.mark_px, mid_price=ctx.mid_px
            )
        )
    return found
