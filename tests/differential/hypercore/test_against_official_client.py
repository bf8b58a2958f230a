"""Random actions: the bytes hashed and the signature equal the official Python client's."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore import actions
from hypercore.action_types import Action, Grouping, Tif, Tpsl
from hypercore.precision import wire_decimal
from hypercore.signing import (
    USER_SIGNED_TYPES,
    Network,
    SecretKey,
    Signature,
    SignedAction,
    Signer,
    action_hash,
    encode_signed,
    recover_signer,
)

official = pytest.importorskip("hyperliquid.utils.signing")
sdk_types = pytest.importorskip("hyperliquid.utils.types")
eth_account = pytest.importorskip("eth_account")

HEX = "0123456789abcdef"
BOUNDED = settings(max_examples=60, deadline=None)

addresses = st.text(HEX, min_size=40, max_size=40).map("0x{}".format)
cloids = st.text(HEX, min_size=32, max_size=32).map("0x{}".format)
assets = st.one_of(st.integers(0, 300), st.integers(10_000, 10_500), st.integers(110_000, 1_400_000))
oids = st.one_of(st.integers(0, 2**32 + 2), st.integers(2**40, 2**63))
nonces = st.integers(0, 2**48)
keys = st.integers(1, 2**255).map(lambda n: "0x" + n.to_bytes(32, "big").hex())
# Below 10^7, where eight decimals of a float are still right: the official client spells 70378556.4 as
# 70378556.40000001. Our own path has no floats and no such limit.
amounts = st.integers(0, 6).flatmap(
    lambda places: st.integers(1, min(10**9, 10 ** (7 + places) - 1)).map(lambda n: Decimal(n).scaleb(-places))
)
order_types = st.one_of(
    st.sampled_from(Tif).map(lambda tif: ("limit", tif)),
    st.tuples(st.just("trigger"), st.booleans(), amounts, st.sampled_from(Tpsl)),
)
orders = st.fixed_dictionaries(
    {
        "asset": assets,
        "is_buy": st.booleans(),
        "price": amounts,
        "size": amounts,
        "reduce_only": st.booleans(),
        "cloid": st.none() | cloids,
        "kind": order_types,
    }
)


def ours(order: dict[str, Any]) -> Any:
    kind = order["kind"]
    order_type = (
        actions.limit(kind[1])
        if kind[0] == "limit"
        else actions.trigger(is_market=kind[1], trigger_price=kind[2], tpsl=kind[3])
    )
    return actions.build_order(
        asset_id=order["asset"],
        is_buy=order["is_buy"],
        price=order["price"],
        size=order["size"],
        order_type=order_type,
        reduce_only=order["reduce_only"],
        cloid=order["cloid"],
    )


def theirs(order: dict[str, Any]) -> Any:
    kind = order["kind"]
    order_type: dict[str, Any] = (
        {"limit": {"tif": kind[1].value}}
        if kind[0] == "limit"
        else {"trigger": {"isMarket": kind[1], "triggerPx": float(kind[2]), "tpsl": kind[3].value}}
    )
    request = {
        "coin": "unused",
        "is_buy": order["is_buy"],
        "sz": float(order["size"]),
        "limit_px": float(order["price"]),
        "order_type": order_type,
        "reduce_only": order["reduce_only"],
        "cloid": None if order["cloid"] is None else sdk_types.Cloid(order["cloid"]),
    }
    return official.order_request_to_order_wire(request, order["asset"])


def numbers(signature: Any) -> tuple[int, int, int]:
    if isinstance(signature, Signature):
        return int(signature.r, 16), int(signature.s, 16), signature.v
    return int(signature["r"], 16), int(signature["s"], 16), signature["v"]


def assert_same(
    action: Action,
    expected: dict[str, Any],
    *,
    key: str,
    nonce: int,
    network: Network,
    vault: str | None = None,
    expires_after: int | None = None,
) -> None:
    """Bytes, hash, signature, posted JSON and recovery, all against the official client."""
    assert msgspec.msgpack.encode(action) == msgpack.packb(expected)
    reference_hash = official.action_hash(expected, vault, nonce, expires_after)
    assert action_hash(action, nonce, vault, expires_after) == reference_hash
    signer = Signer(SecretKey(key), network)
    signed = signer.sign(action, nonce, vault_address=vault, expires_after=expires_after)
    wallet = eth_account.Account.from_key(key)
    is_mainnet = network is Network.MAINNET
    assert signer.address == wallet.address.lower()
    assert numbers(signed.signature) == numbers(
        official.sign_l1_action(wallet, expected, vault, nonce, expires_after, is_mainnet)
    )
    posted = json.loads(encode_signed(signed))
    assert list(posted["action"].items()) == list(expected.items())
    assert recover_signer(msgspec.convert(posted, SignedAction), network) == signer.address


@given(
    rows=st.lists(orders, min_size=1, max_size=4),
    grouping=st.sampled_from(Grouping),
    builder=st.none() | st.tuples(addresses, st.integers(0, 1000)),
    key=keys,
    nonce=nonces,
    network=st.sampled_from(Network),
    vault=st.none() | addresses,
    expires_after=st.none() | nonces,
)
@BOUNDED
def test_order_action_equals_the_official_client(
    rows: list[dict[str, Any]],
    grouping: Grouping,
    builder: tuple[str, int] | None,
    key: str,
    nonce: int,
    network: Network,
    vault: str | None,
    expires_after: int | None,
) -> None:
    """Limit and trigger orders, groups, builder codes, vaults and expiries."""
    fee = None if builder is None else {"b": builder[0], "f": builder[1]}
    expected = official.order_wires_to_order_action([theirs(row) for row in rows], fee, grouping.value)
    action = actions.build_order_action(
        [ours(row) for row in rows],
        grouping=grouping,
        builder=None if builder is None else actions.build_builder_fee(*builder),
    )
    assert_same(action, expected, key=key, nonce=nonce, network=network, vault=vault, expires_after=expires_after)


@given(
    by_oid=st.lists(st.tuples(assets, oids), min_size=1, max_size=5),
    by_cloid=st.lists(st.tuples(assets, cloids), min_size=1, max_size=5),
    key=keys,
    nonce=nonces,
    network=st.sampled_from(Network),
    vault=st.none() | addresses,
)
@BOUNDED
def test_cancel_actions_equal_the_official_client(
    by_oid: list[tuple[int, int]],
    by_cloid: list[tuple[int, str]],
    key: str,
    nonce: int,
    network: Network,
    vault: str | None,
) -> None:
    """Both kinds of cancel, shapes as the official client's bulk_cancel and bulk_cancel_by_cloid build them."""
    expected = {"type": "cancel", "cancels": [{"a": asset, "o": oid} for asset, oid in by_oid]}
    assert_same(actions.build_cancel(by_oid), expected, key=key, nonce=nonce, network=network, vault=vault)
    expected = {
        "type": "cancelByCloid",
        "cancels": [{"asset": asset, "cloid": sdk_types.Cloid(cloid).to_raw()} for asset, cloid in by_cloid],
    }
    action = actions.build_cancel_by_cloid(by_cloid)
    assert_same(action, expected, key=key, nonce=nonce, network=network, vault=vault)


@given(
    rows=st.lists(st.tuples(oids | cloids, orders), min_size=1, max_size=3),
    key=keys,
    nonce=nonces,
    network=st.sampled_from(Network),
)
@BOUNDED
def test_modify_actions_equal_the_official_client(
    rows: list[tuple[int | str, dict[str, Any]]], key: str, nonce: int, network: Network
) -> None:
    """batchModify and modify, by oid and by cloid."""
    expected: dict[str, Any] = {
        "type": "batchModify",
        "modifies": [{"oid": target, "order": theirs(row)} for target, row in rows],
    }
    action: Action = actions.build_batch_modify([(target, ours(row)) for target, row in rows])
    assert_same(action, expected, key=key, nonce=nonce, network=network)
    target, row = rows[0]
    expected = {"type": "modify", "oid": target, "order": theirs(row)}
    assert_same(actions.build_modify(target, ours(row)), expected, key=key, nonce=nonce, network=network)


@given(
    asset=assets,
    is_cross=st.booleans(),
    leverage=st.integers(1, 100),
    micro=st.integers(-(10**12), 10**12),
    time=st.none() | nonces,
    key=keys,
    nonce=nonces,
    network=st.sampled_from(Network),
    vault=st.none() | addresses,
)
@BOUNDED
def test_margin_and_schedule_actions_equal_the_official_client(
    asset: int,
    is_cross: bool,
    leverage: int,
    micro: int,
    time: int | None,
    key: str,
    nonce: int,
    network: Network,
    vault: str | None,
) -> None:
    """updateLeverage, updateIsolatedMargin and scheduleCancel with and without a time."""
    signing: dict[str, Any] = {"key": key, "nonce": nonce, "network": network, "vault": vault}
    expected: dict[str, Any] = {
        "type": "updateLeverage",
        "asset": asset,
        "isCross": is_cross,
        "leverage": leverage,
    }
    action: Action = actions.build_update_leverage(asset, is_cross=is_cross, leverage=leverage)
    assert_same(action, expected, **signing)
    expected = {"type": "updateIsolatedMargin", "asset": asset, "isBuy": True, "ntli": micro}
    action = actions.build_update_isolated_margin(asset, Decimal(micro).scaleb(-6))
    assert_same(action, expected, **signing)
    expected = {"type": "scheduleCancel"} | ({} if time is None else {"time": time})
    assert_same(actions.build_schedule_cancel(time), expected, **signing)


@given(
    destination=addresses,
    dexes=st.tuples(st.text(max_size=6), st.text(max_size=6)),
    token=st.text(min_size=1, max_size=40),
    amount=amounts,
    sub_account=st.just("") | addresses,
    name=st.none() | st.text(min_size=1, max_size=16),
    to_perp=st.booleans(),
    key=keys,
    nonce=nonces,
    network=st.sampled_from(Network),
)
@BOUNDED
def test_user_signed_actions_equal_the_official_client(
    destination: str,
    dexes: tuple[str, str],
    token: str,
    amount: Decimal,
    sub_account: str,
    name: str | None,
    to_perp: bool,
    key: str,
    nonce: int,
    network: Network,
) -> None:
    """sendAsset, usdClassTransfer and approveAgent (named and unnamed)."""
    wallet = eth_account.Account.from_key(key)
    signer = Signer(SecretKey(key), network)
    is_mainnet = network is Network.MAINNET

    send = actions.build_send_asset(
        network=network,
        nonce=nonce,
        destination=destination,
        source_dex=dexes[0],
        destination_dex=dexes[1],
        token=token,
        amount=amount,
        from_sub_account=sub_account,
    )
    expected = official.sign_send_asset_action(wallet, msgspec.to_builtins(send), is_mainnet)
    assert numbers(signer.sign(send, nonce).signature) == numbers(expected)

    transfer = actions.build_usd_class_transfer(network=network, nonce=nonce, amount=amount, to_perp=to_perp)
    expected = official.sign_usd_class_transfer_action(wallet, msgspec.to_builtins(transfer), is_mainnet)
    assert numbers(signer.sign(transfer, nonce).signature) == numbers(expected)

    approve = actions.build_approve_agent(network=network, nonce=nonce, agent_address=destination, agent_name=name)
    message = {"agentName": "", **msgspec.to_builtins(approve)}
    expected = official.sign_agent(wallet, message, is_mainnet)
    signed = signer.sign(approve, nonce)
    assert numbers(signed.signature) == numbers(expected)
    assert recover_signer(signed, network) == signer.address


VALUES: dict[str, Any] = {
    "string": "Some text",
    "uint64": 1_700_000_000_000,
    "bool": True,
    "address": "0x" + "Ab" * 20,
}
SDK_TYPES = {
    "usdSend": ("UsdSend", "USD_SEND_SIGN_TYPES"),
    "spotSend": ("SpotSend", "SPOT_TRANSFER_SIGN_TYPES"),
    "withdraw3": ("Withdraw", "WITHDRAW_SIGN_TYPES"),
    "usdClassTransfer": ("UsdClassTransfer", "USD_CLASS_TRANSFER_SIGN_TYPES"),
    "sendAsset": ("SendAsset", "SEND_ASSET_SIGN_TYPES"),
    "userDexAbstraction": ("UserDexAbstraction", "USER_DEX_ABSTRACTION_SIGN_TYPES"),
    "userSetAbstraction": ("UserSetAbstraction", "USER_SET_ABSTRACTION_SIGN_TYPES"),
    "tokenDelegate": ("TokenDelegate", "TOKEN_DELEGATE_TYPES"),
    "convertToMultiSigUser": ("ConvertToMultiSigUser", "CONVERT_TO_MULTI_SIG_USER_SIGN_TYPES"),
}


@pytest.mark.parametrize("kind", sorted(USER_SIGNED_TYPES))
def test_user_signed_type_table_equals_the_official_clients(kind: str) -> None:
    """Every row of the table signs as the official client's, also those we have no builder for."""
    key = "0x" + "17" * 32
    action = {name: VALUES[field_type] for field_type, name in USER_SIGNED_TYPES[kind].fields}
    action |= {"type": kind, "signatureChainId": "0x66eee", "hyperliquidChain": "Testnet"}
    nonce: int = action["nonce"] if "nonce" in action else action["time"]
    signed = Signer(SecretKey(key), Network.TESTNET).sign(action, nonce)
    wallet = eth_account.Account.from_key(key)
    if kind in SDK_TYPES:
        primary, fields = SDK_TYPES[kind]
        expected = official.sign_user_signed_action(
            wallet, dict(action), getattr(official, fields), f"HyperliquidTransaction:{primary}", False
        )
    else:
        sign = {"approveAgent": "sign_agent", "approveBuilderFee": "sign_approve_builder_fee"}[kind]
        expected = getattr(official, sign)(wallet, dict(action), False)
    assert numbers(signed.signature) == numbers(expected)


@given(value=amounts)
def test_wire_decimal_equals_the_official_spelling_where_floats_are_exact_enough(value: Decimal) -> None:
    """Same text as float_to_wire for values a float can carry."""
    assert wire_decimal(value) == official.float_to_wire(float(value))


def test_wire_decimal_keeps_a_value_the_official_float_path_changes() -> None:
    """The difference is theirs: a float of this size has no eight right decimals."""
    value = Decimal("70378556.4")
    assert wire_decimal(value) == "70378556.4"
    assert official.float_to_wire(float(value)) != "70378556.4"
