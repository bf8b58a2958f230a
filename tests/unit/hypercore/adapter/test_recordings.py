"""Every recorded payload that says something about an account or a market, through codec and normalizer."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from hypercore import frames
from hypercore.adapter import answers, market_normalizer, normalizer
from hypercore.assets import Universe, build_universe
from hypercore.codec import parse_info
from hypercore.exchange_codec import parse_exchange_answer
from hypercore.frames import ActionReply, DataFrame, parse_frame
from tests.unit.hypercore.adapter.support import USER, body, info, needs_recordings, ticket, universe
from venuemesh.errors import OutcomeUnknown, Reason
from venuemesh.gateway.books import book_fault
from venuemesh.gateway.rules import is_valid_price
from venuemesh.gateway.venue import CancelAnswer, Placed, Refused, VenueOrderState
from venuemesh.v1 import instrument_pb2, order_pb2

pytestmark = needs_recordings

NOW_NS = 1_790_000_000_000_000_000


def recorded(info_type: str, name: str) -> Any:
    return parse_info(info_type, body(name))


def frame(name: str) -> Any:
    found = parse_frame(body(name))
    assert isinstance(found, DataFrame)
    return found.data


def everything() -> Universe:
    """The recorded test network: perps and spot."""
    return build_universe(
        spot_meta=recorded("spotMeta", "info_spotMeta_testnet.json"),
        metas={"": recorded("meta", "info_meta_testnet.json")},
    )


def test_instruments_of_recorded_universe_have_consistent_rules() -> None:
    """Each listed asset becomes an instrument whose rules accept whole prices and its own lot."""
    instruments = [
        market_normalizer.normalize_instrument(asset, venue="hyperliquid", updated_ns=NOW_NS)
        for asset in everything().assets
    ]
    assert len(instruments) > 1_000
    assert len({row.symbol for row in instruments}) == len(instruments)
    for row in instruments:
        assert is_valid_price(Decimal(123456), row.price_rule)
        assert Decimal(row.quantity_rule.step_size) > 0
        spot = row.instrument_type == instrument_pb2.INSTRUMENT_TYPE_SPOT
        assert row.HasField("max_leverage") is not spot
        assert bool(row.margin_modes) is not spot


def test_xyz_universe_is_numbered_by_the_recorded_dex_list() -> None:
    """The same code serves a builder dex; its ids come from perpDexs."""
    dexs = recorded("perpDexs", "info_perpDexs_testnet.json")
    index = next(place for place, row in enumerate(dexs) if row is not None and row.name == "xyz")
    found = build_universe(
        spot_meta=recorded("spotMeta", "info_spotMeta_testnet.json"),
        metas={"xyz": recorded("meta", "info_meta_xyz_mainnet.json")},
        perp_dexs=dexs,
        include_spot=False,
    )
    row = market_normalizer.normalize_instrument(found.assets[0], venue="tradexyz", updated_ns=NOW_NS)
    assert found.assets[0].asset_id == 100_000 + index * 10_000
    assert row.venue_section == "xyz"
    assert not row.HasField("maker_fee_rate")


def test_fills_recording_keeps_facts_and_leaves_other_products_out() -> None:
    """The main gateway takes BTC rows only; ids are distinct and the liquidated silver is the xyz gateway's."""
    rows = recorded("userFills", "info_userFills_xyz_and_spot.json")
    main = [fill for row in rows if (fill := normalizer.normalize_fill(row, universe(), user=USER))]
    assert [fill.symbol for fill in main] == ["BTC/USDC:USDC", "BTC/USDC:USDC"]
    assert main[0].execution_id == "736187409879903-307033892448"
    assert (main[0].fee, main[0].fee_asset) == (Decimal("0.003643"), "USDC")
    assert main[0].liquidity_role == order_pb2.LIQUIDITY_ROLE_MAKER
    assert not main[0].forced
    xyz = [fill for row in rows if (fill := normalizer.normalize_fill(row, universe("xyz"), user=USER))]
    assert [fill.forced for fill in xyz] == [True, False, False]
    assert xyz[0].venue_realized_pnl == Decimal("-1.2843")
    assert len({normalizer.execution_id(row) for row in rows}) == len(rows)


def test_fills_of_2023_without_trade_ids_have_distinct_stable_ids() -> None:
    """Rows that carry no tid are named by their facts, the same each time they are read."""
    first = [normalizer.execution_id(row) for row in recorded("userFills", "info_userFills_sdk_part1.json")]
    again = [normalizer.execution_id(row) for row in recorded("userFills", "info_userFills_sdk_part1.json")]
    assert first == again
    assert len(set(first)) == len(first)


def test_liquidation_counterparty_fill_is_not_forced() -> None:
    """The other side of a liquidation carries the same mark and was a trade like any other."""
    event = frame("ws_user_fill_liquidation.json")
    assert isinstance(event, frames.UserEvent)
    assert event.fills
    for row in event.fills:
        assert row.liquidation is not None
        victim = (row.liquidation.liquidated_user or "").lower()
        carried = build_universe(
            spot_meta=recorded("spotMeta", "info_spotMeta_testnet.json"),
            metas={"": info("meta", {"universe": [{"name": row.coin, "szDecimals": 1, "maxLeverage": 3}]})},
        )
        ours = normalizer.normalize_fill(row, carried, user=USER)
        theirs = normalizer.normalize_fill(row, carried, user=victim)
        assert ours is not None
        assert theirs is not None
        assert not ours.forced
        assert theirs.forced


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("ws_orderUpdates_open.json", [VenueOrderState.WORKING]),
        ("ws_orderUpdates_open_then_filled.json", [VenueOrderState.WORKING, VenueOrderState.FILLED]),
        ("ws_orderUpdates_perpMarginRejected.json", [VenueOrderState.REJECTED]),
    ],
)
def test_order_updates_recording_tells_states_in_order(name: str, states: list[VenueOrderState]) -> None:
    """Each recorded row becomes the state its status word means."""
    views = [normalizer.normalize_reported_order(row, universe()) for row in frame(name)]
    assert [view.state for view in views if view] == states
    last = views[-1]
    assert last is not None
    assert last.venue_client_order_id is not None
    if last.state is VenueOrderState.FILLED:
        assert last.filled_quantity == last.quantity == Decimal("0.01")
    if last.state is VenueOrderState.REJECTED:
        assert (last.reason, last.filled_quantity) == (Reason.INSUFFICIENT_MARGIN, Decimal(0))


@pytest.mark.parametrize(
    ("info_type", "name"),
    [
        ("frontendOpenOrders", "info_frontendOpenOrders_sdk.json"),
        ("openOrders", "info_probe_openOrders_whole_position_under_10.json"),
    ],
)
def test_open_orders_recording_reads_as_working_orders(info_type: str, name: str) -> None:
    """Rows of open-order lists are working; what filled is told only where it can be."""
    rows = recorded(info_type, name)
    names = {row.coin for row in rows}
    listed = [{"name": coin, "szDecimals": 1, "maxLeverage": 3} for coin in sorted(names)]
    carried = build_universe(
        spot_meta=recorded("spotMeta", "info_spotMeta_testnet.json"), metas={"": info("meta", {"universe": listed})}
    )
    for row in rows:
        view = normalizer.normalize_order(row, carried)
        assert view is not None
        assert view.state is VenueOrderState.WORKING
        assert view.filled_quantity in (None, view.quantity - row.sz)


def test_clearinghouse_recording_gives_position_mark_and_purse() -> None:
    """The recorded BTC position: mark from its value, cash without the open loss."""
    state = recorded("clearinghouseState", "info_clearinghouseState_btc_cross.json")
    (position,) = normalizer.normalize_positions(state, universe())
    assert position.quantity == Decimal("0.00061")
    assert position.mark_price == Decimal("78135.0")
    assert position.liquidation_price is None
    assert position.margin_mode == instrument_pb2.MARGIN_MODE_CROSS
    sheet = normalizer.BalanceSheet(venue="hyperliquid", account_id="main", dex="", collateral="USDC")
    spot = recorded("spotClearinghouseState", "info_spotClearinghouseState_empty.json")
    (purse,) = sheet.balances(state, spot, mode="default", received_ns=NOW_NS)
    assert (purse.total, purse.available, purse.venue_section) == ("181.835906", "174.241191", "")
    summary = sheet.summary(state, spot, mode="default", received_ns=NOW_NS)
    assert summary.equity == "179.007426"
    assert summary.maintenance_margin == "0.595779"


@pytest.mark.parametrize("name", ["info_clearinghouseState_empty.json", "info_clearinghouseState_sdk.json"])
def test_other_clearinghouse_recordings_read(name: str) -> None:
    """An empty account and one of 2023 give no positions of unlisted coins and a purse."""
    state = recorded("clearinghouseState", name)
    assert {row.symbol for row in normalizer.normalize_positions(state, universe())} <= {
        asset.symbol for asset in universe().assets
    }
    sheet = normalizer.BalanceSheet(venue="hyperliquid", account_id="main", dex="", collateral="USDC")
    empty = recorded("spotClearinghouseState", "info_spotClearinghouseState_empty.json")
    assert len(sheet.balances(state, empty, mode="default", received_ns=NOW_NS)) == 1


def test_funding_recordings_give_one_id_per_payment() -> None:
    """REST rows and the stream's frame make entries whose sign is the balance's change."""
    rows = recorded("userFunding", "info_userFunding_sdk.json")
    listed = [{"name": coin, "szDecimals": 1, "maxLeverage": 3} for coin in sorted({row.delta.coin for row in rows})]
    carried = build_universe(
        spot_meta=recorded("spotMeta", "info_spotMeta_testnet.json"), metas={"": info("meta", {"universe": listed})}
    )
    ledger = normalizer.Ledger(venue="hyperliquid", account_id="main", user=USER, dex="", collateral="USDC")
    entries = [ledger.funding(row.delta, carried, time_ms=row.time) for row in rows]
    assert all(entries)
    assert len({entry.ledger_entry_id for entry in entries if entry}) == len(rows)
    assert [Decimal(entry.amount) for entry in entries if entry] == [row.delta.usdc for row in rows]
    event = frame("ws_user_funding.json")
    assert event.funding is not None
    streamed = ledger.funding(event.funding, universe())
    assert streamed is None or streamed.ledger_entry_id.startswith("funding-")


def test_market_recordings_read() -> None:
    """Book, trades, candles and contexts of the recordings become messages."""
    book = recorded("l2Book", "info_l2Book_sdk.json")
    asset = universe().by_coin("BTC")
    snapshot = market_normalizer.normalize_book(book, asset, received_ns=NOW_NS)
    assert book_fault(snapshot.bids, snapshot.asks) == ""
    sol = universe().by_coin("SOL")
    trades = [
        market_normalizer.normalize_trade(row, sol, venue="hyperliquid", received_ns=NOW_NS)
        for row in frame("ws_trades_SOL.json")
    ]
    assert trades[0].aggressor_side in (order_pb2.SIDE_BUY, order_pb2.SIDE_SELL)
    recent = market_normalizer.oldest_first(recorded("recentTrades", "info_recentTrades_BTC_2024.json"))
    assert [row.time for row in recent] == sorted(row.time for row in recent)
    for row in recorded("candleSnapshot", "info_candleSnapshot_sdk.json"):
        candle = market_normalizer.normalize_candle(row, asset, venue="hyperliquid", now_ns=NOW_NS)
        assert candle is not None
        assert candle.complete
    ctx = frame("ws_activeAssetCtx_SOL.json")
    row = market_normalizer.normalize_statistics(ctx.ctx, sol, venue="hyperliquid", received_ns=NOW_NS)
    assert Decimal(row.mark_price) == ctx.ctx.mark_px
    assert row.next_funding_time.seconds % 3600 == 0
    for dex in frame("ws_allDexsAssetCtxs_main_and_xyz.json").ctxs:
        for item in dex.ctxs:
            market_normalizer.normalize_statistics(item, asset, venue="hyperliquid", received_ns=NOW_NS)
    for item in recorded("metaAndAssetCtxs", "info_metaAndAssetCtxs_testnet2024.json").ctxs:
        market_normalizer.normalize_statistics(item, asset, venue="hyperliquid", received_ns=NOW_NS)


Reader = Callable[[Any], Any]


def _refused(reason: Reason) -> Reader:
    return lambda found: isinstance(found, Refused) and found.reason is reason and bool(found.text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exchange_order_resting_cloid.json", lambda found: isinstance(found, Placed) and not found.ended),
        ("exchange_order_ioc_failed.json", _refused(Reason.NO_LIQUIDITY)),
        ("exchange_order_min_notional.json", _refused(Reason.BELOW_MIN_NOTIONAL)),
        ("exchange_err_wallet_does_not_exist.json", _refused(Reason.AUTHENTICATION_FAILED)),
        ("exchange_probe_err_rate_limited.json", _refused(Reason.VOLUME_QUOTA_EXHAUSTED)),
        ("exchange_probe_reduce_only_flat.json", _refused(Reason.REDUCE_ONLY_WOULD_INCREASE)),
        (
            "exchange_probe_reduce_only_shrunk_fill.json",
            lambda found: isinstance(found, Placed) and found.ended and found.filled_quantity == Decimal("0.02"),
        ),
        ("ws_post_order_resting.json", lambda found: isinstance(found, Placed)),
        ("ws_post_order_min_notional.json", _refused(Reason.BELOW_MIN_NOTIONAL)),
        ("ws_post_action_err_wallet.json", _refused(Reason.AUTHENTICATION_FAILED)),
    ],
)
def test_recorded_order_answers(name: str, expected: Reader) -> None:
    """The recorded answers to orders, over HTTP and over the socket, become placed or refused."""
    ioc = "ioc" in name or "shrunk" in name
    order = ticket(quantity="0.05", time_in_force=order_pb2.TIME_IN_FORCE_IOC if ioc else order_pb2.TIME_IN_FORCE_GTC)
    assert expected(answers.read_placed(_answer(name), order))


def test_recorded_cancel_answers() -> None:
    """Success is canceled; an order that is not there any more is gone."""
    assert answers.read_canceled(_answer("exchange_cancel_success.json")) is CancelAnswer.CANCELED
    assert answers.read_canceled(_answer("ws_post_cancel_failure.json")) is CancelAnswer.GONE


def test_recorded_modify_refusal_leaves_doubt() -> None:
    """The venue cancels before it places, so its sentence does not say what became of the old order."""
    with pytest.raises(OutcomeUnknown):
        answers.read_amended(_answer("exchange_modify_invalid_new_order.json"), ticket())


def _answer(name: str) -> Any:
    if name.startswith("ws_"):
        found = parse_frame(body(name))
        assert isinstance(found, ActionReply)
        return found.answer
    return parse_exchange_answer(body(name))
