"""Builders give the venue's exact keys, order and spelling, and refuse what the venue would."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercore import actions
from hypercore.action_types import Action, AnyAction, Grouping, OrderType, OrderWire, Tif, Tpsl
from hypercore.signing import Network
from venuemesh.errors import InvalidOrder, InvalidRequest, Reason

CLOID = "0x00000000000000000000000000000001"
GTC = actions.limit(Tif.GTC)


def order(**changes: Any) -> OrderWire:
    fields: dict[str, Any] = {
        "asset_id": 0,
        "is_buy": True,
        "price": Decimal("50000.00"),
        "size": Decimal("0.0010"),
        "order_type": GTC,
    }
    return actions.build_order(**{**fields, **changes})


STOP: OrderType = actions.trigger(is_market=True, trigger_price=Decimal("103.0"), tpsl=Tpsl.SL)
PLAIN = '{"a":0,"b":true,"p":"50000","s":"0.001","r":false,"t":{"limit":{"tif":"Gtc"}}}'

EXACT: list[tuple[Action, str]] = [
    (
        actions.build_order_action([order(cloid=CLOID)]),
        '{"type":"order","orders":[' + PLAIN[:-1] + f',"c":"{CLOID}"}}],"grouping":"na"}}',
    ),
    (
        actions.build_order_action(
            [order(order_type=STOP, is_buy=False, reduce_only=True)],
            grouping=Grouping.POSITION_TPSL,
            builder=actions.build_builder_fee("0x6530512A6c89C7cfCEbC3BA7fcD9aDa5f30827a6", 10),
        ),
        '{"type":"order","orders":[{"a":0,"b":false,"p":"50000","s":"0.001","r":true,"t":{"trigger":'
        '{"isMarket":true,"triggerPx":"103","tpsl":"sl"}}}],"grouping":"positionTpsl",'
        '"builder":{"b":"0x6530512a6c89c7cfcebc3ba7fcd9ada5f30827a6","f":10}}',
    ),
    (
        actions.build_order_action([order()], priority=7),
        '{"type":"order","orders":[' + PLAIN + '],"grouping":{"p":7}}',
    ),
    (actions.build_cancel([(0, 77738308)]), '{"type":"cancel","cancels":[{"a":0,"o":77738308}]}'),
    (
        actions.build_cancel([(0, 1)], fast=True),
        '{"type":"cancel","cancels":[{"a":0,"o":1}],"f":true}',
    ),
    (
        actions.build_cancel_by_cloid([(10107, CLOID)]),
        f'{{"type":"cancelByCloid","cancels":[{{"asset":10107,"cloid":"{CLOID}"}}]}}',
    ),
    (actions.build_modify(5, order()), '{"type":"modify","oid":5,"order":' + PLAIN + "}"),
    (
        actions.build_batch_modify([(CLOID, order())]),
        f'{{"type":"batchModify","modifies":[{{"oid":"{CLOID}","order":{PLAIN}}}]}}',
    ),
    (actions.build_schedule_cancel(None), '{"type":"scheduleCancel"}'),
    (actions.build_schedule_cancel(123456789), '{"type":"scheduleCancel","time":123456789}'),
    (
        actions.build_update_leverage(110001, is_cross=False, leverage=5),
        '{"type":"updateLeverage","asset":110001,"isCross":false,"leverage":5}',
    ),
    (
        actions.build_update_isolated_margin(0, Decimal("-1.5")),
        '{"type":"updateIsolatedMargin","asset":0,"isBuy":true,"ntli":-1500000}',
    ),
    (
        actions.build_twap_order(asset_id=0, is_buy=True, size=Decimal(1), minutes=30),
        '{"type":"twapOrder","twap":{"a":0,"b":true,"s":"1","r":false,"m":30,"t":false}}',
    ),
    (actions.build_twap_cancel(0, 9), '{"type":"twapCancel","a":0,"t":9}'),
    (actions.build_noop(), '{"type":"noop"}'),
    (
        actions.build_send_asset(
            network=Network.MAINNET,
            nonce=5,
            destination="0x5E9ee1089755c3435139848e47e6635505d5a13A",
            source_dex="",
            destination_dex="xyz",
            token="USDC:0x6d",
            amount=Decimal("1.50"),
        ),
        '{"type":"sendAsset","destination":"0x5e9ee1089755c3435139848e47e6635505d5a13a","sourceDex":"",'
        '"destinationDex":"xyz","token":"USDC:0x6d","amount":"1.5","fromSubAccount":"","nonce":5,'
        '"signatureChainId":"0x66eee","hyperliquidChain":"Mainnet"}',
    ),
    (
        actions.build_agent_send_asset(
            nonce=5,
            destination="0x" + "ab" * 20,
            source_dex="spot",
            destination_dex="xyz",
            token="USDC:0x6d",
            amount=Decimal(2),
            from_sub_account="0x" + "CD" * 20,
        ),
        f'{{"type":"agentSendAsset","destination":"0x{"ab" * 20}","sourceDex":"spot","destinationDex":"xyz",'
        f'"token":"USDC:0x6d","amount":"2","fromSubAccount":"0x{"cd" * 20}","nonce":5}}',
    ),
    (
        actions.build_usd_class_transfer(
            network=Network.TESTNET, nonce=5, amount=Decimal("1.23"), to_perp=True, sub_account="0x" + "AB" * 20
        ),
        f'{{"type":"usdClassTransfer","amount":"1.23 subaccount:0x{"ab" * 20}","toPerp":true,"nonce":5,'
        '"signatureChainId":"0x66eee","hyperliquidChain":"Testnet"}',
    ),
]


@pytest.mark.parametrize(("action", "expected"), EXACT, ids=[str(i) for i in range(len(EXACT))])
def test_build_gives_the_exact_wire_text(action: Action, expected: str) -> None:
    """Keys, their order, spelling of decimals and absence of unset keys."""
    assert msgspec.json.encode(action).decode() == expected


@pytest.mark.parametrize(("action", "expected"), EXACT, ids=[str(i) for i in range(len(EXACT))])
def test_packed_action_equals_the_reference_packer_on_the_same_text(action: Action, expected: str) -> None:
    """What is hashed is what msgpack gives for the posted JSON, byte for byte."""
    assert msgspec.msgpack.encode(action) == msgpack.packb(json.loads(expected))


@pytest.mark.parametrize(("action", "expected"), EXACT, ids=[str(i) for i in range(len(EXACT))])
def test_decoded_action_is_the_action_again(action: Action, expected: str) -> None:
    """A journalled action can be read back typed."""
    assert msgspec.json.decode(expected, type=AnyAction) == action


def test_reference_packing_of_one_order() -> None:
    """The bytes printed in the venue reference, section 4.1."""
    action = actions.build_order_action([order(price=Decimal(30000), size=Decimal("0.1"))])
    assert msgspec.msgpack.encode(action).hex() == (
        "83a474797065a56f72646572a66f72646572739186a16100a162c3a170a53330303030a173a3302e31a172c2a17481a5"
        "6c696d697481a3746966a3477463a867726f7570696e67a26e61"
    )


@given(oid=st.integers(0, 2**64 - 1), asset=st.integers(0, 2**32))
def test_packed_integers_are_minimal_at_every_size(oid: int, asset: int) -> None:
    """Oids above 2^32 and small ones alike."""
    packed = msgspec.msgpack.encode(actions.build_cancel([(asset, oid)]))
    assert packed == msgpack.packb({"type": "cancel", "cancels": [{"a": asset, "o": oid}]})


@given(micro=st.integers(-(10**15), 10**15))
def test_packed_negative_margin_uses_the_shortest_form(micro: int) -> None:
    """Removals are negative integers."""
    packed = msgspec.msgpack.encode(actions.build_update_isolated_margin(1, Decimal(micro).scaleb(-6)))
    assert packed == msgpack.packb({"type": "updateIsolatedMargin", "asset": 1, "isBuy": True, "ntli": micro})


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"price": Decimal(0)}, Reason.PRICE_NOT_POSITIVE, "price"),
        ({"price": Decimal("1.123456789")}, Reason.INVALID_DECIMAL, "price"),
        ({"size": Decimal(-1)}, Reason.QUANTITY_NOT_POSITIVE, "size"),
        ({"size": Decimal("NaN")}, Reason.INVALID_DECIMAL, "size"),
        ({"cloid": "abc"}, Reason.INVALID_CLIENT_ORDER_ID, "cloid"),
        ({"cloid": "0x" + "AB" * 16}, Reason.INVALID_CLIENT_ORDER_ID, "cloid"),
        ({"cloid": CLOID + "\n"}, Reason.INVALID_CLIENT_ORDER_ID, "cloid"),
    ],
)
def test_build_order_with_a_bad_field_names_it(changes: dict[str, Any], reason: Reason, field: str) -> None:
    """Refused before anything is signed."""
    with pytest.raises(InvalidOrder) as caught:
        order(**changes)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_batches_are_bounded_by_what_the_venue_takes() -> None:
    """200 pass, 201 and none are refused."""
    assert actions.build_order_action([order()] * 200).length() == 200
    assert actions.build_cancel([(0, 1)] * 3).length() == 3
    for count in (0, 201):
        with pytest.raises(InvalidRequest):
            actions.build_order_action([order()] * count)
        with pytest.raises(InvalidRequest):
            actions.build_cancel_by_cloid([(0, CLOID)] * count)


@pytest.mark.parametrize(
    "build",
    [
        lambda: actions.build_update_leverage(0, is_cross=True, leverage=0),
        lambda: actions.build_update_isolated_margin(0, Decimal("0.0000001")),
        lambda: actions.build_twap_order(asset_id=0, is_buy=True, size=Decimal(1), minutes=4),
        lambda: actions.build_cancel([(0, -1)]),
        lambda: actions.build_builder_fee("0x12", 1),
        lambda: actions.build_approve_agent(
            network=Network.TESTNET, nonce=1, agent_address="0x" + "11" * 20, agent_name="x" * 17
        ),
        lambda: actions.build_send_asset(
            network=Network.TESTNET,
            nonce=1,
            destination="0x" + "11" * 20,
            source_dex="",
            destination_dex="xyz",
            token="USDC:0x",
            amount=Decimal(0),
        ),
    ],
)
def test_build_with_values_the_venue_refuses_is_refused_here(build: Any) -> None:
    """Leverage, micro-USD, TWAP length, ids, addresses, names, amounts."""
    with pytest.raises(InvalidRequest):
        build()


def test_approve_agent_takes_an_expiry_suffix_and_omits_no_name() -> None:
    """The 16 characters do not count the suffix; an unnamed agent has no key at all."""
    named = actions.build_approve_agent(
        network=Network.TESTNET,
        nonce=1,
        agent_address="0x" + "11" * 20,
        agent_name="mesh valid_until 1800000000000",
    )
    assert msgspec.to_builtins(named)["agentName"] == "mesh valid_until 1800000000000"
    unnamed = actions.build_approve_agent(network=Network.TESTNET, nonce=1, agent_address="0x" + "11" * 20)
    assert "agentName" not in msgspec.to_builtins(unnamed)


def test_cloid_of_is_stable_and_tells_parts_apart() -> None:
    """The same id for ever, never the same for differently cut parts."""
    cloid = actions.cloid_of("main", "order-1")
    assert actions.check_cloid(cloid) == cloid
    assert cloid == actions.cloid_of("main", "order-1")
    assert cloid == "0xf4e8d9f113c481e8684682906eb22269"
    assert len({cloid, actions.cloid_of("mai", "norder-1"), actions.cloid_of("main", "order-1", "")}) == 3
