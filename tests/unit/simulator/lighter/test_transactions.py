"""What the venue does with transactions: admission, nonces, delays, matching, refusals early and late."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.values import Side
from simulator.lighter.errors import Code, Refused
from simulator.lighter.markets import BLOCK
from simulator.lighter.transactions import ORDER_FIELDS, TxType
from tests.unit.simulator.lighter.world import ACCOUNT, BTC, DAY_MS, ETH, KEY, OTHER, OWNER, SPOT, World

MARKET, STOP, STOP_LIMIT, TAKE_LIMIT = 1, 2, 3, 5
IOC, GTT, POST_ONLY = 0, 1, 2


# -- admission ---------------------------------------------------------------------------------------------------


def test_order_when_valid_is_hashed_queued_and_open() -> None:
    """The answer carries the hash that was signed; the nonce is spent."""
    world = World()
    sent = world.order(ClientOrderIndex=7)
    (row,) = world.rows()
    assert (row["status"], row["client_order_index"], row["price"]) == ("open", 7, "3800.00")
    assert len(sent.tx_hash) == 80
    assert world.nonce() == 2
    assert world.read("tx", by="hash", value=sent.tx_hash)["status"] == 2


def test_signature_when_of_another_account_is_refused_and_spends_nothing() -> None:
    """21120, and the counter stays."""
    world = World()
    wire = msgspec.json.decode(world.info(TxType.CREATE_ORDER, **world.order_fields()))
    wire["AccountIndex"] = OTHER
    with pytest.raises(Refused) as caught:
        world.venue.send(TxType.CREATE_ORDER, msgspec.json.encode(wire).decode(), world.now_ms)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_SIGNATURE, "invalid signature")
    assert world.nonce(OTHER) == 1


def test_signature_when_one_bit_is_flipped_is_refused() -> None:
    """A forgery of one bit in the signature itself."""
    world = World()
    wire = msgspec.json.decode(world.info(TxType.CREATE_ORDER, **world.order_fields()))
    raw = bytearray(base64.b64decode(wire["Sig"]))
    raw[11] ^= 1
    wire["Sig"] = base64.b64encode(bytes(raw)).decode()
    with pytest.raises(Refused) as caught:
        world.venue.send(TxType.CREATE_ORDER, wire, world.now_ms)
    assert caught.value.code == Code.INVALID_SIGNATURE


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"MarketIndex": 99}, Code.INVALID_MARKET),
        ({"ApiKeyIndex": 9}, Code.API_KEY_NOT_FOUND),
        ({"ApiKeyIndex": 255}, Code.INVALID_API_KEY_INDEX),
        ({"Nonce": 0}, Code.INVALID_NONCE),
        ({"Nonce": 2}, Code.INVALID_NONCE),
        ({"ExpiredAt": 1}, Code.INVALID_TX_INFO),
        ({"BaseAmount": 0}, Code.INVALID_BASE_AMOUNT),
        ({"BaseAmount": 40}, Code.INVALID_AMOUNTS),
        ({"Price": 0}, Code.INVALID_PRICE),
        ({"IsAsk": 2}, Code.INVALID_IS_ASK),
        ({"Type": 9}, Code.INVALID_ORDER_TYPE),
        ({"TimeInForce": 3}, Code.INVALID_TIME_IN_FORCE),
        ({"Type": MARKET}, Code.INVALID_TIME_IN_FORCE),
        ({"TriggerPrice": 1}, Code.INVALID_TRIGGER),
        ({"OrderExpiry": 0}, Code.INVALID_EXPIRY),
        ({"TimeInForce": IOC}, Code.INVALID_EXPIRY),
        ({"ClientOrderIndex": BLOCK}, Code.INVALID_CLIENT_INDEX),
        ({"BaseAmount": 100_000_000}, Code.NOT_ENOUGH_MARGIN),
        ({"Price": 1_000_000}, Code.TOO_FAR_FROM_MARK),
        ({"MarketIndex": SPOT, "ReduceOnly": 1}, Code.REDUCE_ONLY_MODE),
        ({"L2TxAttributes": {"1": 718718, "2": 10}}, Code.NOT_APPROVED),
    ],
)
def test_order_when_against_a_rule_is_refused_at_once_and_spends_no_nonce(fields: dict[str, Any], code: Code) -> None:
    """HTTP 400 with the venue's code."""
    world = World()
    assert world.refused(TxType.CREATE_ORDER, **world.order_fields(**fields)) == code
    assert world.nonce() == 1
    assert world.rows() == []


def test_order_when_margin_fits_only_leveraged_is_taken() -> None:
    """Ten thousand at twenty times holds 190 000, not 210 000."""
    world = World()
    assert world.refused(TxType.CREATE_ORDER, **world.order_fields(BaseAmount=560_000)) == Code.NOT_ENOUGH_MARGIN
    assert world.error(world.order(BaseAmount=500_000)) == 0


# -- nonces ------------------------------------------------------------------------------------------------------


def test_nonce_when_skipped_by_attribute_may_jump_and_becomes_the_last() -> None:
    """Attribute 4; afterwards a counting client starts from `nextNonce`."""
    world = World()
    world.order(Nonce=1_790_694_494_081, L2TxAttributes={"4": 1})
    assert world.read("nextNonce", account_index=ACCOUNT, api_key_index=KEY)["nonce"] == 1_790_694_494_082
    code = world.refused(TxType.CREATE_ORDER, **world.order_fields(Nonce=5, L2TxAttributes={"4": 1}))
    assert code == Code.INVALID_NONCE


def test_nonce_when_transaction_is_refused_late_is_spent() -> None:
    """A second order under a live client index: taken, then 21728."""
    world = World()
    world.order(ClientOrderIndex=5)
    late = world.order(ClientOrderIndex=5)
    assert world.error(late) == Code.CLIENT_INDEX_EXISTS
    assert world.nonce() == 3
    assert len(world.rows()) == 1


def test_client_index_when_its_order_is_done_may_be_used_again() -> None:
    """Unique among live orders only."""
    world = World()
    world.order(ClientOrderIndex=5)
    world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=5)
    assert world.error(world.order(ClientOrderIndex=5)) == 0
    assert world.statuses() == ["canceled", "open"]


def test_batch_when_nonces_ascend_is_taken_whole() -> None:
    """And not at all when they do not, or when keys differ."""
    world = World()
    infos = [world.info(TxType.CREATE_ORDER, **world.order_fields(Nonce=n, ClientOrderIndex=n)) for n in (1, 2, 3)]
    sent = world.venue.send_batch([14, 14, 14], infos, world.now_ms)
    world.venue.run_due(world.now_ms)
    assert len({item.tx_hash for item in sent}) == 3
    assert [row["client_order_index"] for row in world.rows()] == [1, 2, 3]
    apart = [world.info(TxType.CREATE_ORDER, **world.order_fields(Nonce=n)) for n in (4, 6)]
    for types, texts, code in (
        ([14, 14], apart, Code.BATCH_NONCE),
        ([14], apart, Code.BATCH_LENGTHS),
        ([14, 14], [apart[0], world.info(TxType.CREATE_ORDER, OTHER, **world.order_fields())], Code.BATCH_KEYS),
    ):
        with pytest.raises(Refused) as caught:
            world.venue.send_batch(types, texts, world.now_ms)
        assert caught.value.code == code
    assert world.nonce() == 4


# -- delays ------------------------------------------------------------------------------------------------------


def test_order_when_account_is_standard_executes_after_its_delay() -> None:
    """300 ms for what may take, and status 1 until then."""
    world = World(delays=True)
    sent = world.order(ClientOrderIndex=1)
    assert sent.predicted_ms == world.now_ms + 300
    assert world.rows() == []
    assert world.read("tx", by="hash", value=sent.tx_hash)["status"] == 1
    world.venue.run_due(world.now_ms + 299)
    assert world.rows() == []
    world.now_ms += 300
    world.venue.run_due(world.now_ms)
    assert world.statuses() == ["open"]
    assert world.read("tx", by="hash", value=sent.tx_hash)["status"] == 2


def test_cancel_when_sent_behind_its_order_never_overtakes_it() -> None:
    """The shorter delay of a cancel does not break the order of a key's nonces."""
    world = World(delays=True)
    world.order(ClientOrderIndex=1)
    cancel = world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=1)
    world.now_ms += 300
    world.venue.run_due(world.now_ms)
    assert world.error(cancel) == 0
    assert world.statuses() == ["canceled"]


def test_premium_account_when_making_has_no_delay_and_pays_fees() -> None:
    """Post-only at once; a taker pays 280 ticks."""
    world = World(delays=True)
    world.venue.set_tier(world.venue.accounts.get(ACCOUNT), "premium", world.now_ms)
    assert world.order(TimeInForce=POST_ONLY).predicted_ms == world.now_ms
    world.house(Side.SELL, "1", "3900")
    sent = world.order(Price=390_000, TimeInForce=IOC, OrderExpiry=0, BaseAmount=1000)
    world.now_ms = sent.predicted_ms
    world.venue.run_due(world.now_ms)
    (trade,) = world.read("trades", sort_by="timestamp", limit=10, account_index=ACCOUNT)["trades"]
    assert trade["taker_fee"] == 280
    account = world.read("account", by="index", value=ACCOUNT)["accounts"][0]
    assert account["collateral"] == "9999.890800"


def test_premium_account_when_out_of_quota_has_one_free_order_each_quarter_minute() -> None:
    """Orders cost a unit, cancels nothing, and trading earns units back."""
    world = World()
    account = world.venue.accounts.get(ACCOUNT)
    world.venue.set_tier(account, "premium", world.now_ms)
    account.quota.units = 2
    for client_index in (1, 2, 3):
        world.order(ClientOrderIndex=client_index)
    assert world.refused(TxType.CREATE_ORDER, **world.order_fields()) == Code.TOO_MANY_REQUESTS
    sent = world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=1)
    answer = world.venue.quota_answer([sent])
    assert (answer["volume_quota_remaining"], "didn't use" in answer["message"]) == (0, True)
    world.house(Side.SELL, "0.1", "3800")
    world.venue.batch(world.now_ms)
    assert account.quota.units == 126
    assert world.error(world.order()) == 0
    assert world.venue.quota_answer([sent])["volume_quota_remaining"] == 125


# -- order kinds -------------------------------------------------------------------------------------------------


def test_post_only_when_crossing_is_cancelled_as_such() -> None:
    """Taken, then seen in the stream as canceled-post-only."""
    world = World()
    world.house(Side.SELL, "1", "3900")
    assert world.error(world.order(Price=390_000, TimeInForce=POST_ONLY)) == 0
    assert world.statuses() == ["canceled-post-only"]


@pytest.mark.parametrize(
    ("kind", "asks", "status"),
    [
        (0, [], "canceled"),
        (MARKET, [], "canceled-not-enough-liquidity"),
        (MARKET, ["3950"], "canceled-too-much-slippage"),
        (MARKET, ["3890"], "canceled-not-enough-liquidity"),
    ],
)
def test_immediate_order_when_not_filled_says_why(kind: int, asks: list[str], status: str) -> None:
    """Nothing there, or nothing good enough; a part may have traded."""
    world = World()
    for price in asks:
        world.house(Side.SELL, "0.05", price)
    world.order(Type=kind, Price=390_000, TimeInForce=IOC, OrderExpiry=0)
    assert world.statuses() == [status]


def test_market_order_when_filled_moves_position_and_tells_the_match() -> None:
    """`event_info` names price, size, maker and taker."""
    world = World()
    world.house(Side.SELL, "1", "3900")
    sent = world.order(Type=MARKET, Price=392_000, TimeInForce=IOC, OrderExpiry=0, ClientOrderIndex=3)
    event = sent.record.event
    assert (event["t"]["p"], event["t"]["s"]) == (390_000, 1000)
    assert (event["to"]["u"], event["to"]["st"], event["to"]["rs"]) == (3, 3, 0)
    assert event["mo"]["ia"] == 1
    account = world.read("account", by="index", value=ACCOUNT)["accounts"][0]
    assert [(p["position"], p["sign"], p["avg_entry_price"]) for p in account["positions"]] == [
        ("0.1000", 1, "3900.00")
    ]


def test_stop_when_mark_reaches_it_sells_at_its_own_worst_price() -> None:
    """Waiting as pending, then filled; the bound is the order's price."""
    world = World()
    world.house(Side.SELL, "1", "3900")
    world.order(Price=390_000)
    stop = {"Type": STOP, "IsAsk": 1, "TriggerPrice": 370_000, "Price": 360_000, "TimeInForce": IOC, "ReduceOnly": 1}
    world.order(**stop, ClientOrderIndex=8)
    assert world.rows()[-1]["status"] == "pending"
    assert world.rows()[-1]["trigger_status"] == "mark-price"
    world.house(Side.BUY, "1", "3650")
    world.mark("3700")
    assert world.rows()[-1]["status"] == "filled"
    assert world.read("account", by="index", value=ACCOUNT)["accounts"][0]["positions"][0]["position"] == "0.0000"


def test_stop_when_already_past_its_trigger_is_refused() -> None:
    """A stop above the market on the selling side."""
    world = World()
    fields = world.order_fields(Type=STOP, IsAsk=1, TriggerPrice=400_000, TimeInForce=IOC)
    assert world.refused(TxType.CREATE_ORDER, **fields) == Code.INVALID_TRIGGER


def test_pair_when_one_leg_fires_cancels_the_other() -> None:
    """One cancels other, without a parent."""
    world = World()
    world.house(Side.SELL, "1", "3900")
    world.order(Price=390_000)
    legs = [
        world.order_fields(IsAsk=1, Type=TAKE_LIMIT, TriggerPrice=410_000, Price=409_000, ReduceOnly=1),
        world.order_fields(IsAsk=1, Type=STOP_LIMIT, TriggerPrice=370_000, Price=369_000, ReduceOnly=1),
    ]
    world.send(TxType.CREATE_GROUPED_ORDERS, GroupingType=2, Orders=legs)
    assert world.rows()[1]["to_cancel_order_id_0"] == world.rows()[2]["order_id"]
    world.house(Side.BUY, "1", "4095")
    world.mark("4100")
    assert world.statuses() == ["filled", "filled", "canceled-oco"]


def test_bracket_when_parent_fills_arms_its_children_with_its_size() -> None:
    """Children of a parent have no amount of their own."""
    world = World()
    orders = [
        world.order_fields(Price=389_000),
        world.order_fields(IsAsk=1, Type=TAKE_LIMIT, TriggerPrice=410_000, Price=409_000, ReduceOnly=1, BaseAmount=0),
        world.order_fields(IsAsk=1, Type=STOP_LIMIT, TriggerPrice=370_000, Price=369_000, ReduceOnly=1, BaseAmount=0),
    ]
    world.send(TxType.CREATE_GROUPED_ORDERS, GroupingType=3, Orders=orders)
    assert [row["trigger_status"] for row in world.rows()] == ["na", "parent-order", "parent-order"]
    world.house(Side.SELL, "1", "3890")
    assert [row["trigger_status"] for row in world.rows()] == ["na", "mark-price", "mark-price"]
    world.house(Side.BUY, "1", "3695")
    world.mark("3700")
    assert world.statuses() == ["filled", "canceled-oco", "filled"]


@pytest.mark.parametrize(("grouping", "count", "code"), [(4, 2, 21741), (2, 3, 21742), (3, 2, 21742)])
def test_group_when_malformed_is_refused(grouping: int, count: int, code: int) -> None:
    """Unknown grouping, wrong number of legs."""
    world = World()
    orders = [world.order_fields() for _ in range(count)]
    assert world.refused(TxType.CREATE_GROUPED_ORDERS, GroupingType=grouping, Orders=orders) == code


def test_own_orders_when_they_meet_follow_the_attribute() -> None:
    """By default the resting one goes; with attribute 6 the incoming one, or both."""
    for attribute, expected in (
        (None, ["canceled-self-trade", "canceled"]),
        ({"6": 1}, ["open", "canceled-self-trade"]),
        ({"6": 2}, ["canceled-self-trade", "canceled-self-trade"]),
        ({"6": 3}, ["canceled-self-trade", "canceled-self-trade"]),
    ):
        world = World()
        world.order(IsAsk=1, Price=390_000)
        world.order(Price=390_000, TimeInForce=IOC, OrderExpiry=0, L2TxAttributes=attribute)
        assert world.statuses() == expected


def test_order_when_it_expires_is_cancelled_as_such() -> None:
    """At its expiry, by the passing of time alone."""
    world = World()
    world.order(OrderExpiry=world.now_ms + 600_000)
    world.now_ms += 600_000
    world.venue.step(world.now_ms)
    assert world.statuses() == ["canceled-expired"]


def test_twap_when_time_passes_trades_in_slices_until_it_is_filled() -> None:
    """Waiting as pending on "twap"; every slice is an order of its own, the parent counts them up."""
    world = World()
    world.house(Side.SELL, "10", "3900")
    world.order(Type=6, Price=395_000, OrderExpiry=world.now_ms + 300_000, ClientOrderIndex=9)
    (row,) = world.rows()
    assert (row["type"], row["status"], row["trigger_status"]) == ("twap", "pending", "twap")
    world.venue.step(world.now_ms)
    assert world.rows()[0]["filled_base_amount"] == "0.0100"
    for _ in range(9):
        world.now_ms += 30_000
        world.venue.step(world.now_ms)
    parent, *slices = world.rows()
    assert (parent["status"], parent["filled_base_amount"], parent["filled_quote_amount"]) == (
        "filled",
        "0.1000",
        "390.000000",
    )
    assert [row["type"] for row in slices] == ["twap-sub"] * 10
    world.venue.batch(world.now_ms)
    trades = world.read("trades", sort_by="timestamp", limit=100, account_index=ACCOUNT)["trades"]
    assert len(trades) == 10
    assert all(trade["tx_hash"].endswith("0" * 40) for trade in trades)


def test_twap_when_cancelled_or_expired_stops() -> None:
    """By the client, or with what nobody sold."""
    world = World()
    expiry = world.now_ms + 300_000
    world.order(Type=6, Price=395_000, OrderExpiry=expiry, ClientOrderIndex=1)
    world.order(Type=6, Price=395_000, OrderExpiry=expiry, ClientOrderIndex=2)
    world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=1)
    world.venue.step(world.now_ms)
    world.now_ms = expiry
    world.venue.step(world.now_ms)
    statuses = {row["client_order_index"]: row["status"] for row in world.rows() if row["type"] == "twap"}
    assert statuses == {1: "canceled", 2: "canceled-expired"}


# -- cancel and modify -------------------------------------------------------------------------------------------


def test_cancel_when_by_client_index_or_order_index_ends_the_order() -> None:
    """The size of the number tells them apart; unknown and finished ones are refused late."""
    world = World()
    world.order(ClientOrderIndex=5)
    world.order(IsAsk=1, Price=400_000)
    second = world.rows()[1]["order_index"]
    assert second == BLOCK + second % BLOCK
    assert world.error(world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=5)) == 0
    assert world.error(world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=second)) == 0
    assert world.error(world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=5)) == Code.ORDER_INACTIVE
    assert world.error(world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=6)) == Code.INVALID_ORDER_INDEX
    assert (
        world.error(world.send(TxType.CANCEL_ORDER, OTHER, MarketIndex=ETH, Index=second)) == Code.INVALID_ORDER_INDEX
    )
    assert world.statuses() == ["canceled", "canceled"]


@pytest.mark.parametrize(("counts", "remaining"), [(True, "0.1000"), (False, "0.2000")])
def test_modify_when_partly_filled_counts_the_fill_as_configured(counts: bool, remaining: str) -> None:
    """Both readings of the new size; the index stays, the version counts up."""
    world = World(modify_counts_filled=counts)
    world.order(BaseAmount=2000, ClientOrderIndex=5)
    world.house(Side.SELL, "0.1", "3800")
    before = world.rows()[0]
    sent = world.send(TxType.MODIFY_ORDER, MarketIndex=ETH, Index=5, BaseAmount=2000, Price=379_000, TriggerPrice=0)
    assert world.error(sent) == 0
    after = world.rows()[0]
    assert (after["order_index"], after["order_version"], after["price"]) == (before["order_index"], 1, "3790.00")
    assert (after["remaining_base_amount"], after["filled_base_amount"]) == (remaining, "0.1000")
    stale = world.send(
        TxType.MODIFY_ORDER,
        MarketIndex=ETH,
        Index=5,
        BaseAmount=2000,
        Price=378_000,
        TriggerPrice=0,
        L2TxAttributes={"8": 9},
    )
    assert world.error(stale) == Code.INVALID_ORDER_INFO


def test_modify_when_new_price_crosses_trades() -> None:
    """It takes what is there."""
    world = World()
    world.house(Side.SELL, "1", "3900")
    world.order(ClientOrderIndex=5)
    world.send(TxType.MODIFY_ORDER, MarketIndex=ETH, Index=5, BaseAmount=1000, Price=390_000, TriggerPrice=0)
    assert world.statuses() == ["filled"]


def test_cancel_all_when_now_or_for_a_market_ends_orders() -> None:
    """Attribute 5 narrows it."""
    world = World()
    world.order()
    world.order(MarketIndex=BTC, Price=1_000_000, BaseAmount=100)
    world.send(TxType.CANCEL_ALL_ORDERS, TimeInForce=0, Time=0, L2TxAttributes={"5": BTC})
    assert world.statuses() == ["open", "canceled"]
    world.send(TxType.CANCEL_ALL_ORDERS, TimeInForce=0, Time=0)
    assert world.statuses() == ["canceled", "canceled"]


def test_cancel_all_when_scheduled_fires_then_unless_aborted() -> None:
    """A dead man's switch: pushed back by sending it again, lifted by an abort."""
    world = World()
    world.order(OrderExpiry=world.now_ms + 2 * DAY_MS)
    at = world.now_ms + 600_000
    world.send(TxType.CANCEL_ALL_ORDERS, TimeInForce=1, Time=at)
    assert world.read("account", by="index", value=ACCOUNT)["accounts"][0]["cancel_all_time"] == at
    world.send(TxType.CANCEL_ALL_ORDERS, TimeInForce=2, Time=0)
    world.now_ms = at
    world.venue.step(world.now_ms)
    assert world.statuses() == ["open"]
    world.send(TxType.CANCEL_ALL_ORDERS, TimeInForce=1, Time=at + 600_000)
    world.now_ms = at + 600_000
    world.venue.step(world.now_ms)
    assert world.statuses() == ["canceled"]
    assert world.refused(TxType.CANCEL_ALL_ORDERS, TimeInForce=1, Time=world.now_ms + 1) == Code.CANCEL_ALL_TIME


FUZZED = {
    TxType.CREATE_ORDER: ORDER_FIELDS,
    TxType.CANCEL_ORDER: ("MarketIndex", "Index"),
    TxType.CANCEL_ALL_ORDERS: ("TimeInForce", "Time"),
    TxType.MODIFY_ORDER: ("MarketIndex", "Index", "BaseAmount", "Price", "TriggerPrice"),
    TxType.UPDATE_LEVERAGE: ("MarketIndex", "InitialMarginFraction", "MarginMode"),
    TxType.UPDATE_MARGIN: ("MarketIndex", "USDCAmount", "Direction"),
    TxType.WITHDRAW: ("AssetIndex", "RouteType", "Amount"),
    TxType.UPDATE_ACCOUNT_CONFIG: ("AccountTradingMode",),
    TxType.UPDATE_ACCOUNT_ASSET_CONFIG: ("AssetIndex", "AssetMarginMode"),
    TxType.CREATE_SUB_ACCOUNT: (),
    TxType.MINT_SHARES: ("PublicPoolIndex", "ShareAmount"),
}
NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 255, 1000, 380_000, 390_000, 400_000, 2048, BLOCK - 1, BLOCK, 2**62])
EXPIRIES = st.sampled_from([0, 1_790_000_000_000 + DAY_MS])
WILD = st.sampled_from(list(FUZZED)).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.fixed_dictionaries({name: EXPIRIES if name == "OrderExpiry" else NUMBERS for name in FUZZED[kind]}),
        st.sampled_from([None, {"6": 3}, {"5": 0}, {"8": 1}, {"4": 1}]),
    )
)


@settings(max_examples=80, deadline=None)
@given(st.lists(WILD, max_size=12))
def test_transactions_when_wild_are_refused_or_executed_and_never_crash(
    wild: list[tuple[TxType, dict[str, int], dict[str, int] | None]],
) -> None:
    """Early or late, every outcome is a code; the nonce counts exactly what was taken."""
    world = World(verify=False)
    world.house(Side.SELL, "1", "3900")
    world.house(Side.BUY, "1", "3800")
    taken = 0
    for kind, fields, attributes in wild:
        try:
            sent = world.send(kind, L2TxAttributes=attributes, **fields)
        except Refused as refusal:
            assert refusal.code and refusal.message
            continue
        taken += 1
        assert isinstance(sent.record.event["ae"], str)
        assert world.read("tx", by="hash", value=sent.tx_hash)["status"] == 2
    assert world.nonce() == 1 + taken
    world.read("account", by="index", value=ACCOUNT)
    world.read("accountActiveOrders", account_index=ACCOUNT)
    world.read("accountInactiveOrders", account_index=ACCOUNT, limit=100)


# -- accounts ----------------------------------------------------------------------------------------------------


def test_leverage_when_set_shows_exactly_and_mode_is_bound_to_being_flat() -> None:
    """A fraction of 3333 ticks is 33.33 %, and a mode change with an order is 21132."""
    world = World()
    world.send(TxType.UPDATE_LEVERAGE, MarketIndex=ETH, InitialMarginFraction=3333, MarginMode=0)
    world.order()
    late = world.send(TxType.UPDATE_LEVERAGE, MarketIndex=ETH, InitialMarginFraction=3333, MarginMode=1)
    assert world.error(late) == Code.MARGIN_MODE_CHANGE
    (position,) = world.read("account", by="index", value=ACCOUNT)["accounts"][0]["positions"]
    assert (position["initial_margin_fraction"], position["margin_set_flag"]) == ("33.33", 1)
    code = world.refused(TxType.UPDATE_LEVERAGE, MarketIndex=ETH, InitialMarginFraction=100, MarginMode=0)
    assert code == Code.INVALID_MARGIN_FRACTION


def test_margin_when_added_to_an_isolated_position_is_allocated() -> None:
    """And may not be taken below the initial margin."""
    world = World()
    world.send(TxType.UPDATE_LEVERAGE, MarketIndex=ETH, InitialMarginFraction=1000, MarginMode=1)
    world.house(Side.SELL, "1", "3900")
    world.order(Price=390_000)
    add = world.send(TxType.UPDATE_MARGIN, MarketIndex=ETH, USDCAmount=50_000_000, Direction=1)
    assert world.error(add) == 0
    (position,) = world.read("account", by="index", value=ACCOUNT)["accounts"][0]["positions"]
    assert (position["margin_mode"], position["allocated_margin"]) == (1, "89.000000")
    take = world.send(TxType.UPDATE_MARGIN, MarketIndex=ETH, USDCAmount=60_000_000, Direction=0)
    assert world.error(take) == Code.BELOW_INITIAL


def test_transfer_when_to_own_sub_account_moves_money_without_an_owner_signature() -> None:
    """To a stranger it takes one."""
    world = World()
    world.send(TxType.CREATE_SUB_ACCOUNT)
    sub = world.read("accountsByL1Address", l1_address=OWNER)["sub_accounts"][1]["index"]
    fields = {"AssetIndex": 3, "FromRouteType": 0, "ToRouteType": 0, "Amount": 250_000_000, "USDCFee": 0}
    fields["Memo"] = [0] * 32
    sent = world.send(TxType.TRANSFER, ToAccountIndex=sub, **fields)
    assert world.error(sent) == 0
    assert world.read("account", by="index", value=sub)["accounts"][0]["collateral"] == "250.000000"
    assert world.refused(TxType.TRANSFER, ToAccountIndex=OTHER, **fields) == Code.BAD_L1_SIGNATURE
    broke = world.send(TxType.TRANSFER, ToAccountIndex=sub, **(fields | {"Amount": 10**12}))
    assert world.error(broke) == Code.NOT_ENOUGH_COLLATERAL


def test_histories_when_money_moved_show_every_move() -> None:
    """Deposit, transfer to the spot side, withdrawal."""
    world = World()
    fields = {"AssetIndex": 3, "FromRouteType": 0, "ToRouteType": 1, "Amount": 5_000_000, "USDCFee": 0}
    world.send(TxType.TRANSFER, ToAccountIndex=ACCOUNT, Memo=[0] * 32, **fields)
    world.send(TxType.WITHDRAW, AssetIndex=3, RouteType=1, Amount=2_000_000)
    asked = {"account_index": ACCOUNT, "l1_address": OWNER}
    assert [row["amount"] for row in world.read("deposit/history", **asked)["deposits"]] == [
        "1000.000000",
        "10000.000000",
    ]
    (move,) = world.read("transfer/history", **asked)["transfers"]
    assert (move["type"], move["from_route"], move["to_route"]) == ("L2SelfTransfer", "perps", "spot")
    (out,) = world.read("withdraw/history", **asked)["withdraws"]
    assert (out["amount"], out["status"]) == ("2.000000", "completed")
