"""Moving money between dexes, spot, accounts and sub-accounts: refusals, fees, ledger rows, who may act."""

from __future__ import annotations

from typing import Any

import pytest
from hyperliquid.utils import signing as official

from simulator.engine.values import Side
from tests.unit.simulator.front_world import AGENT, AGENT_ADDRESS, START_MS, USER, WALLET, Front, orders, wire
from tests.unit.simulator.money import all_money

USDC = "USDC:0x6d1e7cde53ba9467b783cb7c530ce054"
PURR = "PURR:0xc1fb593aeffbeb02f85e0308e9956a90"
STRANGER = "0x" + "6" * 40
OK = {"status": "ok", "response": {"type": "default"}}


def send(**changes: Any) -> dict[str, Any]:
    """A sendAsset of one dollar from the main dex to xyz, without its nonce."""
    return {
        "type": "sendAsset", "destination": USER, "sourceDex": "", "destinationDex": "xyz", "token": USDC,
        "amount": "1", "fromSubAccount": "",
    } | changes  # fmt: skip


def user_send(front: Front, **changes: Any) -> Any:
    """Sign and send sendAsset as the account."""
    action = send(**changes) | {"nonce": front.nonce()}
    signature = official.sign_send_asset_action(WALLET, action, False)
    return front.post({"action": action, "nonce": action["nonce"], "signature": signature})


def agent_send(front: Front, **changes: Any) -> Any:
    """Sign and send agentSendAsset as the agent."""
    nonce = front.nonce()
    action = send(**changes) | {"type": "agentSendAsset", "nonce": nonce}
    return front.act(action, key=AGENT, nonce=nonce)


def with_agent() -> Front:
    """A venue where the agent may sign."""
    front = Front()
    front.venue.preapprove(AGENT_ADDRESS, USER)
    return front


def sub_account(front: Front, usd: int = 1_000) -> str:
    """A funded sub-account."""
    created = str(front.act({"type": "createSubAccount", "name": "one"})["response"]["data"])
    move = {"type": "subAccountTransfer", "subAccountUser": created, "isDeposit": True, "usd": usd * 1_000_000}
    assert front.act(move) == OK
    return created


def perps(front: Front, user: str = USER, dex: str = "") -> str:
    """Withdrawable of a dex."""
    return str(front.ask("clearinghouseState", user=user, dex=dex)["withdrawable"])


def deltas(front: Front, user: str = USER) -> list[dict[str, Any]]:
    """Ledger deltas, oldest first."""
    return [row["delta"] for row in front.ask("userNonFundingLedgerUpdates", user=user, startTime=0)]


@pytest.mark.parametrize("sender", [user_send, agent_send])
@pytest.mark.parametrize(("source", "to"), [("", "xyz"), ("xyz", ""), ("spot", "xyz"), ("xyz", "spot"), ("", "spot")])
def test_collateral_when_sent_between_own_wallets_arrives(sender: Any, source: str, to: str) -> None:
    """Every way between main, xyz and spot, by the account or its agent."""
    front = with_agent()
    assert sender(front, sourceDex=source, destinationDex=to, amount="2500.5") == OK
    wallets = {"": perps(front), "xyz": perps(front, dex="xyz")}
    wallets["spot"] = front.ask("spotClearinghouseState")["balances"][0]["total"]
    assert (wallets[source], wallets[to]) == ("7499.5", "12500.5")
    row = deltas(front)[-1]
    assert (row["type"], row["sourceDex"], row["destinationDex"], row["usdcValue"]) == ("send", source, to, "2500.5")


REFUSALS = [
    ({"amount": "10000.01"}, "Insufficient balance for withdrawal"),
    ({"sourceDex": "spot", "amount": "10000.01"}, "Insufficient balance for token transfer"),
    ({"amount": "0"}, "Invalid amount"),
    ({"destinationDex": "abc"}, "Invalid perp dex abc"),
    ({"token": PURR}, "Only the collateral token of a perp dex can be sent to or from it"),
    ({"token": "USDC:0x00"}, "Invalid token USDC:0x00"),
    ({"fromSubAccount": STRANGER}, f"Vault not registered: {STRANGER}"),
    ({"destinationDex": ""}, "Cannot send to the same account and dex"),
]


@pytest.mark.parametrize("sender", [user_send, agent_send])
@pytest.mark.parametrize(("changes", "text"), REFUSALS)
def test_transfer_when_impossible_is_refused_and_moves_nothing(sender: Any, changes: dict[str, Any], text: str) -> None:
    """Refused whole, by account and agent alike."""
    front = with_agent()
    assert sender(front, **changes) == {"status": "err", "response": text}
    assert (perps(front), perps(front, dex="xyz")) == ("10000.0", "10000.0")


def test_agent_when_it_sends_to_a_stranger_is_refused_and_to_a_sub_account_is_not() -> None:
    """An agent cannot take money away from the user."""
    front = with_agent()
    sub = sub_account(front)
    text = "Agent can only send asset to same user or their sub-accounts."
    assert agent_send(front, destination=STRANGER, destinationDex="") == {"status": "err", "response": text}
    assert agent_send(front, destination=sub, destinationDex="xyz", amount="10") == OK
    assert perps(front, user=sub, dex="xyz") == "10.0"


def test_agent_transfer_when_its_nonces_differ_is_a_mismatch() -> None:
    """The inner nonce is checked there too."""
    front = with_agent()
    nonce = front.nonce()
    action = send() | {"type": "agentSendAsset", "nonce": nonce - 1}
    assert front.act(action, key=AGENT, nonce=nonce) == {"status": "err", "response": "Nonce mismatch."}


def test_transfer_when_the_recipient_is_new_costs_a_dollar_once() -> None:
    """Paid by the sender, shown in the row, kept by the venue."""
    front = Front()
    whole = all_money(front.venue)
    for _ in range(2):
        action = {"type": "usdSend", "destination": STRANGER, "amount": "100", "time": front.nonce()}
        signature = official.sign_usd_transfer_action(WALLET, action, False)
        assert front.post({"action": action, "nonce": action["time"], "signature": signature}) == OK
    assert (perps(front), perps(front, user=STRANGER)) == ("9799.0", "200.0")
    first, second = deltas(front)[-2:]
    assert first == {
        "type": "internalTransfer", "usdc": "100.0", "user": USER, "destination": STRANGER, "fee": "1.0",
    }  # fmt: skip
    assert second["fee"] == "0.0"
    assert all_money(front.venue) == whole


def test_margin_in_use_when_sent_away_is_refused() -> None:
    """Only what is withdrawable may leave a dex."""
    front = Front()
    front.house(Side.SELL, "20", "3900")
    front.order(size="20", tif="Ioc")  # 3900 of margin, a tenth of notional stays
    assert user_send(front, amount="5000")["response"] == "Insufficient balance for withdrawal"
    assert user_send(front, amount="2000") == OK


def test_sub_account_when_traded_by_the_agent_of_its_master_is_read_by_its_own_address() -> None:
    """Orders, fills, state and rate limit are the sub-account's; the master and the agent have none of it."""
    front = with_agent()
    sub = sub_account(front)
    front.house(Side.SELL, "1", "3900")
    filled = front.order(key=AGENT, vault=sub, tif="Ioc")["filled"]
    oid = front.order(key=AGENT, vault=sub, price="3800")["resting"]["oid"]
    assert [fill["oid"] for fill in front.ask("userFills", user=sub)] == [filled["oid"]]
    assert [row["oid"] for row in front.ask("openOrders", user=sub)] == [oid]
    assert front.ask("orderStatus", user=sub, oid=oid)["status"] == "order"
    assert front.ask("clearinghouseState", user=sub)["assetPositions"][0]["position"]["szi"] == "0.1"
    assert front.ask("userRole", user=sub) == {"role": "subAccount", "data": {"master": USER}}
    for other in (USER, AGENT_ADDRESS):
        assert front.ask("userFills", user=other) == []
        assert front.ask("openOrders", user=other) == []
        assert front.ask("orderStatus", user=other, oid=oid) == {"status": "unknownOid"}
    (row,) = front.ask("subAccounts2")
    assert [dex for dex, _ in row["dexToClearinghouseState"]] == ["", "xyz"]
    body = front.act({"type": "cancel", "cancels": [{"a": 1, "o": oid}]}, key=AGENT, vault=sub)
    assert body["response"]["data"]["statuses"] == ["success"]


def test_sub_account_when_it_moves_money_by_send_asset_names_itself() -> None:
    """`fromSubAccount`, signed by the master."""
    front = Front()
    sub = sub_account(front)
    assert user_send(front, fromSubAccount=sub, destination=sub, amount="400") == OK
    assert (perps(front, user=sub), perps(front, user=sub, dex="xyz")) == ("600.0", "400.0")
    assert deltas(front)[-1]["type"] == "subAccountTransfer"
    assert "resting" in front.order(vault=sub, asset=110001, price="430", size="1")


def test_spot_token_when_sent_is_valued_at_its_mark() -> None:
    """spotTransfer rows carry the dollar value."""
    front = Front()
    front.venue.fund(USER, "spot", "PURR", front.venue.engine.markets["ETH"].oracle, START_MS)
    action = {"destination": STRANGER, "amount": "100", "token": PURR, "time": front.nonce(), "type": "spotSend"}
    signature = official.sign_spot_transfer_action(WALLET, action, False)
    assert front.post({"action": action, "nonce": action["time"], "signature": signature}) == OK
    row = deltas(front)[-1]
    assert (row["type"], row["token"], row["amount"], row["usdcValue"]) == ("spotTransfer", "PURR", "100.0", "11.0")


def test_batch_when_every_row_is_for_a_sub_account_answers_in_order() -> None:
    """Acting for a sub-account changes nothing in the shape of answers."""
    front = with_agent()
    sub = sub_account(front)
    body = front.act(orders(wire(price="3800"), wire(size="0"), wire(price="3700")), key=AGENT, vault=sub)
    kinds = [next(iter(status)) for status in body["response"]["data"]["statuses"]]
    assert kinds == ["resting", "error", "resting"]
