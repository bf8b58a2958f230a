"""Answers of /info written from the reference where no recording exists, and what is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from hypercore.codec import INFO_TYPES, RAW_KEPT, parse_info
from tests.unit.hypercore.shapes import FILL, META, ROW, STATE, TWAP, USER
from venuemesh.errors import ProtocolViolation, Reason

FEES = {
    "dailyUserVlm": [{"date": "2026-01-01", "userCross": "0.0", "userAdd": "0.0", "exchange": "1.0"}],
    "feeSchedule": {
        "cross": "0.00045",
        "add": "0.00015",
        "spotCross": "0.0007",
        "spotAdd": "0.0004",
        "tiers": {
            "vip": [
                {
                    "ntlCutoff": "5000000.0",
                    "cross": "0.0004",
                    "add": "0.00012",
                    "spotCross": "0.0006",
                    "spotAdd": "0.0003",
                }
            ],
            "mm": [{"makerFractionCutoff": "0.005", "add": "-0.00001"}],
        },
        "referralDiscount": "0.04",
        "stakingDiscountTiers": [{"bpsOfMaxSupply": "0.0", "discount": "0.0"}],
    },
    "userCrossRate": "0.00045",
    "userAddRate": "0.00015",
    "userSpotCrossRate": "0.0007",
    "userSpotAddRate": "0.0004",
    "activeReferralDiscount": "0.0",
    "trial": None,
    "feeTrialEscrow": "0.0",
    "nextTrialAvailableTimestamp": None,
    "stakingLink": None,
    "activeStakingDiscount": {"bpsOfMaxSupply": "0.0", "discount": "0.0"},
}
SUB_ACCOUNT = {
    "name": "a",
    "subAccountUser": USER,
    "master": USER,
    "clearinghouseState": STATE,
    "spotState": {"balances": []},
}

ANSWERS: dict[str, Any] = {
    "allPerpMetas": [META, META],
    "marginTable": {"description": "", "marginTiers": [{"lowerBound": "0.0", "maxLeverage": 50}]},
    "predictedFundings": [
        [
            "AVAX",
            [
                ["BinPerp", {"fundingRate": "0.0001", "nextFundingTime": 1, "fundingIntervalHours": 8}],
                ["BybitPerp", None],
            ],
        ]
    ],
    "perpsAtOpenInterestCap": ["BADGER"],
    "perpDexLimits": {
        "totalOiCap": "1.0",
        "oiSzCapPerPerp": "1.0",
        "maxTransferNtl": "1.0",
        "coinToOiCap": [["xyz:AAPL", "1.0"]],
    },
    "perpDexStatus": {"totalNetDeposit": "1317092600.0"},
    "exchangeStatus": {"time": 1, "specialStatuses": None},
    "spotMetaAndAssetCtxs": [
        {"universe": [], "tokens": []},
        [
            {
                "coin": "@107",
                "dayNtlVlm": "1.0",
                "markPx": "1.0",
                "midPx": None,
                "prevDayPx": "1.0",
                "circulatingSupply": "1.0",
                "totalSupply": "1.0",
                "dayBaseVlm": "1.0",
            }
        ],
    ],
    "orderStatus": {"status": "order", "order": {"order": ROW, "status": "filled", "statusTimestamp": 1}},
    "historicalOrders": [{"order": ROW, "status": "open", "statusTimestamp": 1}],
    "userFillsByTime": [FILL],
    "userFees": FEES,
    "userRole": {"role": "agent", "data": {"user": USER}},
    "activeAssetData": {
        "user": USER,
        "coin": "BTC",
        "leverage": {"type": "cross", "value": 20},
        "maxTradeSzs": ["1.0", "2.0"],
        "availableToTrade": ["1.0", "2.0"],
        "markPx": "1.0",
    },
    "subAccounts": [SUB_ACCOUNT],
    "subAccounts2": None,
    "maxBuilderFee": 10,
    "approvedBuilders": [USER],
    "twapHistory": [{"time": 1, "state": TWAP, "status": {"status": "error", "description": "x"}, "twapId": 1}],
    "userTwapSliceFills": [{"fill": FILL, "twapId": 5}],
    "userAbstraction": "unifiedAccount",
    "userDexAbstraction": None,
    "userToMultiSigSigners": {"authorizedUsers": [USER], "threshold": 1},
    "spotClearinghouseState": {
        "balances": [
            {"coin": "USDC", "token": 0, "total": "14.6", "hold": "0.0", "entryNtl": "0.0"},
            {"coin": "+10", "total": "1.0", "hold": "0.0", "entryNtl": "0.0"},
        ],
        "tokenToAvailableAfterMaintenance": [[0, "1.0"]],
        "evmEscrows": [{"coin": "USDC", "token": 0, "total": "1.0"}],
    },
    "clearinghouseState": STATE,
}


@pytest.mark.parametrize("info_type", sorted(ANSWERS))
def test_parse_info_on_the_documented_shape(info_type: str) -> None:
    """Shapes of the reference, with an unknown key added to the top object where there is one."""
    answer = ANSWERS[info_type]
    assert (parse_info(info_type, json.dumps(answer).encode()) is None) == (answer is None)
    if isinstance(answer, dict):
        parse_info(info_type, json.dumps({**answer, "brandNewKey": [1]}).encode())


def test_parse_info_covers_every_answer_of_the_reference() -> None:
    """The table is compared with the reference's list, so that it can only grow."""
    documented = set(ANSWERS) | {
        "meta",
        "metaAndAssetCtxs",
        "allMids",
        "l2Book",
        "candleSnapshot",
        "recentTrades",
        "fundingHistory",
        "perpDexs",
        "spotMeta",
        "openOrders",
        "frontendOpenOrders",
        "userFills",
        "userFunding",
        "userNonFundingLedgerUpdates",
        "userRateLimit",
        "extraAgents",
        "portfolio",
        "userTwapSliceFills",
    }
    assert documented <= INFO_TYPES


def test_parse_info_of_unknown_things_the_venue_answers_politely() -> None:
    """An unknown coin is null, an unknown order a status without an order, an unknown user empty."""
    assert parse_info("l2Book", b"null") is None
    unknown = parse_info("orderStatus", b'{"status":"unknownOid"}')
    assert (unknown.status, unknown.order) == ("unknownOid", None)
    assert parse_info("openOrders", b"[]") == ()


def test_parse_info_of_a_fill_reads_optional_parts() -> None:
    """Builder fee, TWAP and rebate sign."""
    (fill,) = parse_info("userFillsByTime", json.dumps([FILL]).encode())
    assert (fill.fee, fill.builder_fee, fill.twap_id) == (Decimal("-0.004"), Decimal("0.001"), 5)
    assert (fill.cloid, fill.liquidation) == (None, None)


def ledger(delta: dict[str, Any]) -> bytes:
    return json.dumps([{"time": 1, "hash": "0x0", "delta": delta}]).encode()


def test_parse_ledger_of_a_known_kind_is_typed_and_keeps_the_raw_object() -> None:
    """`send` between dexes."""
    delta = {
        "type": "send",
        "user": USER,
        "destination": USER,
        "sourceDex": "",
        "destinationDex": "xyz",
        "token": "USDC",
        "amount": "1.5",
        "usdcValue": "1.5",
        "fee": "0.0",
        "nativeTokenFee": "0.0",
        "nonce": 1,
        "feeToken": "",
    }
    (row,) = parse_info("userNonFundingLedgerUpdates", ledger(delta))
    assert (row.delta.type, row.delta.amount, row.delta.destination_dex) == ("send", Decimal("1.5"), "xyz")
    assert json.loads(row.raw) == delta


def test_parse_ledger_of_an_unknown_kind_is_kept_whole() -> None:
    """A kind with other shapes under familiar keys still gives its type and its raw object."""
    (row,) = parse_info("userNonFundingLedgerUpdates", ledger({"type": "newThing", "amount": [1, 2]}))
    assert row.delta.type == "newThing"
    assert json.loads(row.raw)["amount"] == [1, 2]


def test_parse_ledger_of_a_known_kind_with_an_ill_typed_field_is_refused() -> None:
    """A deposit whose amount is no number is not waved through."""
    with pytest.raises(ProtocolViolation):
        parse_info("userNonFundingLedgerUpdates", ledger({"type": "deposit", "usdc": "many"}))


@pytest.mark.parametrize(
    ("info_type", "raw"),
    [
        ("meta", b"null"),
        ("meta", b'{"universe":[{"name":"BTC"}]}'),
        ("meta", b'{"universe":[{"name":"BTC","szDecimals":-1,"maxLeverage":1}]}'),
        ("allMids", b'{"BTC":"abc"}'),
        ("allMids", b'{"BTC":"NaN"}'),
        ("allMids", b'{"BTC":"-Infinity"}'),
        ("allMids", b'{"BTC":"1_000"}'),
        ("allMids", b""),
        ("allMids", b"\xff\xfe"),
        ("allMids", b"[" * 5_000),
        ("userRateLimit", b'{"cumVlm":"1.0","nRequestsUsed":"1","nRequestsCap":1}'),
        ("l2Book", b'{"coin":"BTC","time":1,"levels":[[]]}'),
        ("notAType", b"{}"),
    ],
)
def test_parse_info_of_an_ill_typed_payload_is_a_protocol_violation(info_type: str, raw: bytes) -> None:
    """Typed error with the payload's text and length."""
    with pytest.raises(ProtocolViolation) as caught:
        parse_info(info_type, raw)
    assert caught.value.reason is Reason.VENUE_PROTOCOL_ERROR
    assert caught.value.metadata["payload_bytes"] == str(len(raw))


def test_protocol_violation_keeps_a_bounded_part_of_the_payload() -> None:
    """A megabyte of rubbish does not land in the log."""
    with pytest.raises(ProtocolViolation) as caught:
        parse_info("meta", b"x" * 1_000_000)
    assert len(caught.value.metadata["payload"]) == RAW_KEPT


def test_parse_info_takes_coins_whose_names_look_like_numbers_that_are_none() -> None:
    """A coin may be called NAN or INF; only a decimal may not be one."""
    assert parse_info("allMids", b'{"NAN":"1.0","INF":"2.0"}') == {"NAN": Decimal("1.0"), "INF": Decimal("2.0")}
    assert parse_info("perpsAtOpenInterestCap", b'["NAN"]') == ("NAN",)
