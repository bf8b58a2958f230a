"""Unified accounts: one balance in spot for everything, reads, refusals, and money that stays whole."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hyperliquid.utils import signing as official

from simulator.engine.values import Side
from tests.unit.simulator.front_world import USER, WALLET, Front
from tests.unit.simulator.money import all_money

TSLA = 110001
OK = {"status": "ok", "response": {"type": "default"}}
ZEROS = {"accountValue": "0.0", "totalRawUsd": "0.0"}
USDC = "USDC:0x6d1e7cde53ba9467b783cb7c530ce054"
REFUSED = {"status": "err", "response": "Action disabled when unified account is active"}


def set_mode(front: Front, mode: str, user: str = USER) -> Any:
    """Sign and send userSetAbstraction."""
    action = {"type": "userSetAbstraction", "user": user, "abstraction": mode, "nonce": front.nonce()}
    signature = official.sign_user_set_abstraction_action(WALLET, action, False)
    return front.post({"action": action, "nonce": action["nonce"], "signature": signature})


def unified(**options: Any) -> Front:
    """A user with 10000 on the main dex, on xyz and in spot, then unified."""
    front = Front(**options)
    assert set_mode(front, "unifiedAccount") == OK
    return front


def balance(front: Front) -> tuple[str, str]:
    """Total and hold of USDC in spot."""
    (row,) = front.ask("spotClearinghouseState")["balances"]
    assert row["coin"] == "USDC"
    return row["total"], row["hold"]


def class_transfer(front: Front) -> Any:
    """Move a dollar from spot to perps."""
    action = {"amount": "1", "toPerp": True, "nonce": front.nonce(), "type": "usdClassTransfer"}
    signature = official.sign_usd_class_transfer_action(WALLET, action, False)
    return front.post({"action": action, "nonce": action["nonce"], "signature": signature})


def send_asset(front: Front, **changes: Any) -> Any:
    """Sign and send sendAsset."""
    action = {
        "type": "sendAsset", "destination": USER, "sourceDex": "", "destinationDex": "xyz", "token": USDC,
        "amount": "1", "fromSubAccount": "", "nonce": front.nonce(),
    } | changes  # fmt: skip
    signature = official.sign_send_asset_action(WALLET, action, False)
    return front.post({"action": action, "nonce": action["nonce"], "signature": signature})


def test_account_when_unified_has_one_balance_and_zero_margin_states() -> None:
    """Three ledgers become one spot balance; the mode is a bare string."""
    front = unified()
    assert front.ask("userAbstraction") == "unifiedAccount"
    assert balance(front) == ("30000.0", "0.0")
    for dex in ("", "xyz"):
        state = front.ask("clearinghouseState", dex=dex)
        assert state["marginSummary"] | ZEROS == state["marginSummary"]
        assert (state["withdrawable"], state["assetPositions"]) == ("0.0", [])


def test_account_when_an_agent_sets_the_mode_is_unified_too() -> None:
    """`agentSetAbstraction` letters."""
    front = Front()
    assert front.act({"type": "agentSetAbstraction", "abstraction": "p"}) == OK
    assert front.ask("userAbstraction") == "portfolioMargin"
    assert balance(front)[0] == "30000.0"


def test_positions_when_on_both_dexes_share_the_one_balance() -> None:
    """An order on xyz may use what a standard account would not have there."""
    big = {"asset": TSLA, "price": "430", "size": "800", "tif": "Ioc"}  # 344000 at 20x: 17200
    front = Front()
    front.house(Side.SELL, "1000", "430", "xyz:TSLA")
    assert front.order(**big) == {"error": f"Insufficient margin to place order. asset={TSLA}"}
    set_mode(front, "unifiedAccount")
    assert "filled" in front.order(**big)
    front.house(Side.SELL, "10", "3900")
    assert "filled" in front.order(size="10", tif="Ioc")
    assert [row["position"]["coin"] for row in front.ask("clearinghouseState")["assetPositions"]] == ["ETH"]
    tsla = front.ask("clearinghouseState", dex="xyz")["assetPositions"]
    assert [row["position"]["szi"] for row in tsla] == ["800.0"]
    total, hold = balance(front)
    assert total == "29951.49"  # 30000 less fees of 30.96 and 17.55
    assert hold == "19150.0"  # 17200 and 1950 of margin
    available = front.ask("spotClearinghouseState")["tokenToAvailableAfterMaintenance"]
    assert available == [[0, "20571.49"]]  # less half of 5 % of 344000 and half of 4 % of 39000


def test_spot_buy_when_margin_is_in_use_may_only_spend_what_is_free() -> None:
    """What backs a position cannot buy coins."""
    front = unified()
    front.house(Side.SELL, "1000", "430", "xyz:TSLA")
    front.order(asset=TSLA, price="430", size="800", tif="Ioc")
    assert "error" in front.order(asset=10107, price="45", size="300")
    assert "resting" in front.order(asset=10107, price="45", size="100")
    assert balance(front)[1] == "21700.0"  # margin and the locked quote


@pytest.mark.parametrize("act", [class_transfer, send_asset])
def test_own_transfer_when_unified_is_refused(act: Any) -> None:
    """There is nothing to move between."""
    assert act(Front())["status"] == "ok"
    assert act(unified()) == REFUSED


def test_transfer_to_others_when_unified_takes_from_the_one_balance() -> None:
    """Sending money out still works."""
    front = unified()
    other = "0x" + "6" * 40
    assert send_asset(front, destination=other, destinationDex="", amount="100") == OK
    assert balance(front)[0] == "29899.0"  # a new recipient costs one dollar
    assert front.ask("clearinghouseState", user=other)["withdrawable"] == "100.0"


def test_account_when_separated_keeps_its_money_in_spot_and_needs_to_be_flat() -> None:
    """Open orders or positions forbid it."""
    front = unified()
    oid = front.order(price="3000")["resting"]["oid"]
    assert set_mode(front, "disabled")["status"] == "err"
    front.act({"type": "cancel", "cancels": [{"a": 1, "o": oid}]})
    assert set_mode(front, "disabled") == OK
    assert balance(front) == ("30000.0", "0.0")
    assert front.ask("clearinghouseState")["withdrawable"] == "0.0"
    assert class_transfer(front)["status"] == "ok"
    assert front.ask("clearinghouseState")["withdrawable"] == "1.0"


def test_sub_account_when_unified_by_its_master_has_a_mode_of_its_own() -> None:
    """`user` may be a sub-account."""
    front = Front()
    sub = front.act({"type": "createSubAccount", "name": "one"})["response"]["data"]
    front.act({"type": "subAccountTransfer", "subAccountUser": sub, "isDeposit": True, "usd": 500_000_000})
    assert set_mode(front, "unifiedAccount", user=sub) == OK
    assert front.ask("userAbstraction") == "default"
    assert front.ask("userAbstraction", user=sub) == "unifiedAccount"
    assert front.ask("spotClearinghouseState", user=sub)["balances"][0]["total"] == "500.0"


def test_money_when_unified_trades_and_is_liquidated_is_conserved() -> None:
    """A crash over two dexes moves money, never makes or loses any."""
    front = unified()
    whole = all_money(front.venue)
    front.house(Side.SELL, "1000", "430", "xyz:TSLA")
    front.house(Side.SELL, "50", "3900")
    front.order(asset=TSLA, price="430", size="1000", tif="Ioc")
    front.order(size="20", tif="Ioc")
    front.order(asset=10107, price="45", size="20")
    assert all_money(front.venue) == whole
    front.venue.population.set_reference("xyz:TSLA", Decimal(380), front.now_ms)
    assert front.ask("clearinghouseState")["assetPositions"] == []
    assert front.ask("clearinghouseState", dex="xyz")["assetPositions"] == []
    assert front.ask("openOrders") == []
    assert all_money(front.venue) == whole


def test_funding_when_unified_is_paid_from_the_one_balance() -> None:
    """Payments of both dexes appear once each."""
    front = unified()
    front.house(Side.SELL, "10", "430", "xyz:TSLA")
    front.house(Side.SELL, "1", "3900")
    front.order(asset=TSLA, price="430", size="10", tif="Ioc")
    front.order(size="1", tif="Ioc")
    before = Decimal(balance(front)[0])
    front.now_ms += 3_600_000
    front.venue.step(front.now_ms)
    rows = front.ask("userFunding", startTime=0)
    assert [row["delta"]["coin"] for row in rows] == ["ETH", "xyz:TSLA"]
    assert Decimal(balance(front)[0]) - before == sum(Decimal(row["delta"]["usdc"]) for row in rows)
