"""Account objects written from the venue reference, shared by the codec and frame tests."""

from __future__ import annotations

from typing import Any

USER = "0x" + "ab" * 20
ROW: dict[str, Any] = {
    "coin": "ETH",
    "side": "A",
    "limitPx": "1980.0",
    "sz": "0.0507",
    "oid": 62015425745,
    "timestamp": 1791318000000,
    "triggerCondition": "Price above 2200",
    "isTrigger": True,
    "triggerPx": "2200.0",
    "children": [],
    "isPositionTpsl": False,
    "reduceOnly": True,
    "orderType": "Take Profit Market",
    "origSz": "0.0507",
    "tif": None,
    "cloid": None,
}
FILL: dict[str, Any] = {
    "coin": "xyz:SILVER",
    "px": "80.6",
    "sz": "0.6",
    "side": "A",
    "time": 1,
    "startPosition": "0.6",
    "dir": "Close Long",
    "closedPnl": "-1.2",
    "hash": "0x0",
    "oid": 3,
    "crossed": True,
    "fee": "-0.004",
    "tid": 9,
    "feeToken": "USDC",
    "builderFee": "0.001",
    "twapId": 5,
}
META: dict[str, Any] = {"universe": [{"szDecimals": 5, "name": "BTC", "maxLeverage": 40, "marginTableId": 56}]}
STATE: dict[str, Any] = {
    "marginSummary": dict.fromkeys(("accountValue", "totalNtlPos", "totalRawUsd", "totalMarginUsed"), "0.0"),
    "crossMarginSummary": dict.fromkeys(("accountValue", "totalNtlPos", "totalRawUsd", "totalMarginUsed"), "0.0"),
    "crossMaintenanceMarginUsed": "0.0",
    "withdrawable": "0.0",
    "assetPositions": [
        {
            "type": "oneWay",
            "position": {
                "coin": "xyz:TSLA",
                "szi": "0.069",
                "leverage": {"type": "isolated", "value": 1, "rawUsd": "-0.003313"},
                "entryPx": None,
                "positionValue": "29.59341",
                "unrealizedPnl": "0.0",
                "returnOnEquity": "0.0",
                "liquidationPx": None,
                "marginUsed": "29.590097",
                "maxLeverage": 20,
            },
        }
    ],
    "time": 1,
}
TWAP: dict[str, Any] = {
    "coin": "HYPE",
    "user": USER,
    "side": "B",
    "sz": "200.0",
    "executedSz": "0.0",
    "executedNtl": "0.0",
    "minutes": 90,
    "reduceOnly": False,
    "randomize": False,
    "timestamp": 1785860221159,
    "trigger": None,
    "stopPx": None,
}
