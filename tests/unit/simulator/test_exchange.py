"""`/exchange`: exact error texts, signers, nonces, budgets, batches."""

from __future__ import annotations

from typing import Any

import pytest
from hyperliquid.utils import signing as official

from simulator.engine.values import Side
from simulator.hyperliquid import exchange
from tests.unit.simulator.front_world import (
    AGENT,
    AGENT_ADDRESS,
    HOUSE,
    START_MS,
    USER,
    WALLET,
    Front,
    orders,
    wire,
)

CLOID = "0x1234567890abcdef1234567890abcdef"
TSLA, HOOD = 110001, 110004


def test_resting_order_when_placed_answers_its_id_and_cloid() -> None:
    """The plainest answer of all."""
    status = Front().order(cloid=CLOID)
    assert status["resting"]["cloid"] == CLOID
    assert isinstance(status["resting"]["oid"], int)


@pytest.mark.parametrize("mainnet", [True, False])
def test_order_when_signed_for_either_network_is_taken(mainnet: bool) -> None:
    """Both source bytes are honoured by default."""
    assert "resting" in Front().order(mainnet=mainnet)


def test_order_when_signed_for_the_other_network_is_from_an_unknown_wallet() -> None:
    """A venue of one network recovers a stranger from the other's signatures."""
    body = Front(network="testnet").order(mainnet=True)
    assert body["status"] == "err"
    assert body["response"].startswith("User or API Wallet 0x")
    assert body["response"].endswith(" does not exist.")


PER_ORDER = [
    ({"price": "3900.05"}, "Price must be divisible by tick size. asset=1"),
    ({"size": "0.002"}, "Order must have minimum value of $10. asset=1"),
    ({"size": "200"}, "Insufficient margin to place order. asset=1"),
    ({"buy": False, "reduce": True}, "Reduce only order would increase position. asset=1"),
    ({"price": "3950", "tif": "Alo"},
     "Post only order would have immediately matched, bbo was 3890@3910.5. asset=1"),
    ({"tif": "Ioc"}, "Order could not immediately match against any resting orders. asset=1"),
    ({"trigger": {"isMarket": True, "triggerPx": "3800", "tpsl": "sl"}},
     "Invalid TP/SL price. asset=1"),
    ({"size": "0"}, "Order has zero size."),
    ({"size": "0.00001"}, "Order has invalid size."),
    ({"price": "x"}, "Order has invalid price."),
    ({"price": "1"}, "Order price cannot be more than 95% away from the reference price"),
    ({"size": "2000"}, "Order value too large. Max is $5000000."),
    ({"asset": 10000, "price": "0.1", "size": "50"},
     "Order must have minimum value of 10 USDC. asset=10000"),
    ({"asset": 10107, "price": "45", "size": "1000"}, "Insufficient spot balance asset=10107"),
    ({"asset": TSLA, "price": "430.123"}, f"Price must be divisible by tick size. asset={TSLA}"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "text"), PER_ORDER)
def test_order_when_refused_has_the_exact_text_and_suffix(changes: dict[str, Any], text: str) -> None:
    """Texts of the protocol reference, with the asset where the venue names it."""
    front = Front()
    front.house(Side.BUY, "1", "3890")
    front.house(Side.SELL, "1", "3910.5")
    assert front.order(**changes) == {"error": text}


def test_batch_when_one_order_is_bad_places_the_others() -> None:
    """One entry per order, in order."""
    body = Front().act(orders(wire(), wire(size="0.0001"), wire(price="3800")))
    kinds = [next(iter(status)) for status in body["response"]["data"]["statuses"]]
    assert kinds == ["resting", "error", "resting"]


def test_batch_when_longer_than_two_hundred_is_refused_whole() -> None:
    """201 entries are one too many."""
    front = Front()
    body = front.act(orders(*[wire(price="3000")] * 201))
    assert body == {"status": "err", "response": "Signed action over weight limit of 200."}
    assert front.ask("openOrders") == []


def test_cancels_when_some_are_unknown_answer_one_by_one() -> None:
    """By id and by cloid; the suffix is the asset asked for."""
    front = Front()
    oid = front.order(cloid=CLOID)["resting"]["oid"]
    gone = {"error": "Order was never placed, already canceled, or filled. asset=1"}
    body = front.act({"type": "cancel", "cancels": [{"a": 1, "o": oid}, {"a": 1, "o": oid}]})
    assert body["response"] == {"type": "cancel", "data": {"statuses": ["success", gone]}}
    body = front.act({"type": "cancelByCloid", "cancels": [{"asset": 1, "cloid": CLOID}]})
    assert body["response"] == {"type": "cancel", "data": {"statuses": [gone]}}


def test_modify_when_done_issues_a_new_id_and_when_gone_says_so() -> None:
    """Cancel plus new; the old id is then unknown to a second modify."""
    front = Front()
    oid = front.order(cloid=CLOID)["resting"]["oid"]
    body = front.act({"type": "batchModify", "modifies": [{"oid": CLOID, "order": wire(price="3800", cloid=CLOID)}]})
    new = body["response"]["data"]["statuses"][0]["resting"]["oid"]
    assert new != oid
    again = {"oid": oid, "order": wire(price="3700")}
    body = front.act({"type": "batchModify", "modifies": [again]})
    assert body["response"]["data"]["statuses"] == [{"error": "Cannot modify canceled or filled order"}]
    body = front.act({"type": "modify", **again})
    assert body == {"status": "err", "response": "Cannot modify canceled or filled order"}
    body = front.act({"type": "batchModify", "modifies": [{"oid": new, "order": wire(price="3800.05")}]})
    assert body["response"]["data"]["statuses"] == [{"error": "Attempted to modify to invalid new order"}]


def test_nonce_when_repeated_is_refused_with_its_number() -> None:
    """The text names the nonce."""
    front = Front()
    front.order(nonce=START_MS + 5)
    body = front.order(nonce=START_MS + 5)
    assert body == {"status": "err", "response": f"Invalid nonce: duplicate nonce {START_MS + 5}"}


def test_action_when_expired_is_refused_and_before_is_not() -> None:
    """`expiresAfter` is in the hash and is obeyed."""
    front = Front()
    assert front.order(expires=START_MS) == {"status": "err", "response": "Action already expired"}
    assert "resting" in front.order(expires=START_MS + 1)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        [],
        {"action": {"type": "nonsense"}, "nonce": 1, "signature": {"r": "0x1", "s": "0x1", "v": 27}},
        {"action": orders(wire(tif="Day")), "nonce": 1, "signature": {"r": "0x1", "s": "0x1", "v": 27}},
        {"action": orders(wire(cloid="abc")), "nonce": 1, "signature": {"r": "0x1", "s": "0x1", "v": 27}},
        {"action": orders(wire()), "nonce": 1, "signature": {"r": "zz", "s": "0x1", "v": 27}},
    ],
)
def test_body_when_not_a_known_request_is_unprocessable_text(payload: Any) -> None:
    """What the venue cannot deserialise is a 422 with a plain text body."""
    answer = exchange.handle(Front().venue, payload, START_MS)
    assert (answer.status, answer.plain) == (422, True)
    assert answer.body.startswith("Failed to deserialize the JSON body into the target type")


def approve(front: Front, address: str, name: str = "", **fields: Any) -> Any:
    """Approve an agent as the official client does: an empty name is signed but not sent."""
    action = {"type": "approveAgent", "agentAddress": address, "agentName": name, "nonce": front.nonce()}
    signature = official.sign_agent(WALLET, action, False)
    if not name:
        del action["agentName"]
    return front.post({"action": action | fields, "nonce": action["nonce"], "signature": signature})


def test_agent_when_approved_trades_for_its_master() -> None:
    """Orders land on the master; the agent itself has no state."""
    front = Front()
    assert front.order(key=AGENT)["response"] == f"User or API Wallet {AGENT_ADDRESS} does not exist."
    assert approve(front, AGENT.address) == {"status": "ok", "response": {"type": "default"}}
    oid = front.order(key=AGENT)["resting"]["oid"]
    assert [row["oid"] for row in front.ask("openOrders")] == [oid]
    assert front.ask("openOrders", user=AGENT_ADDRESS) == []
    assert front.ask("userRole", user=AGENT_ADDRESS) == {"role": "agent", "data": {"user": USER}}
    assert front.ask("extraAgents") == []


def test_agent_when_its_time_is_over_is_unknown_again() -> None:
    """Validity ends without notice."""
    front = Front()
    approve(front, AGENT.address, f"bot valid_until {START_MS + 1000}")
    assert front.ask("extraAgents")[0]["name"] == "bot"
    assert "resting" in front.order(key=AGENT)
    front.now_ms += 1000
    assert front.order(key=AGENT)["response"].endswith("does not exist.")


def test_agent_when_a_fourth_is_named_is_refused() -> None:
    """Three named agents; a name may be given to a new address."""
    front = Front()
    for number in range(3):
        assert approve(front, "0x" + f"{number + 1:040x}", f"bot{number}")["status"] == "ok"
    text = "Too many extra agents for cumulative volume traded. Current limit is 3"
    assert approve(front, "0x" + f"{9:040x}", "bot9") == {"status": "err", "response": text}
    assert approve(front, "0x" + f"{9:040x}", "bot0")["status"] == "ok"
    assert approve(front, "0x" + f"{9:040x}", "bot1")["response"] == "Extra agent already used."


def test_user_signed_action_when_signed_by_an_agent_must_deposit_first() -> None:
    """Such actions apply to the signer's own account, and an agent has none."""
    front = Front()
    approve(front, AGENT.address)
    action = {"destination": USER, "amount": "1", "time": front.nonce(), "type": "usdSend"}
    signature = official.sign_usd_transfer_action(AGENT, action, False)
    body = front.post({"action": action, "nonce": action["time"], "signature": signature})
    assert body["response"] == f"Must deposit before performing actions. User: {AGENT_ADDRESS}"


def test_user_signed_action_when_the_nonces_differ_is_a_mismatch() -> None:
    """Inner and outer nonce must be equal."""
    front = Front()
    nonce = front.nonce()
    action = {"destination": HOUSE, "amount": "1", "time": nonce, "type": "usdSend"}
    signature = official.sign_usd_transfer_action(WALLET, action, False)
    body = front.post({"action": action, "nonce": nonce + 1, "signature": signature})
    assert body == {"status": "err", "response": "Nonce mismatch."}


def test_budget_when_spent_refuses_with_the_sum_and_lets_cancels_through() -> None:
    """Orders stop, cancels have a larger budget, ten seconds free one order."""
    front = Front(address_budget=2)
    oid = front.order()["resting"]["oid"]
    front.order(price="3800")
    front.order(price="3700")  # the one free request of this ten seconds
    assert front.order(price="3600")["response"] == (
        "Too many cumulative requests sent (4 > 2) for cumulative volume traded $0.00. "
        "Place taker orders to free up 1 request per USDC traded."
    )
    assert front.act({"type": "cancel", "cancels": [{"a": 1, "o": oid}]})["status"] == "ok"
    front.now_ms += 10_000
    assert "resting" in front.order(price="3600")
    assert front.ask("userRateLimit")["nRequestsCap"] == 2


def test_vault_when_not_a_sub_account_is_not_registered_and_when_one_trades() -> None:
    """A sub-account is acted for by its master, address with or without 0x."""
    front = Front()
    stranger = "0x" + "5" * 40
    assert front.order(vault=stranger)["response"] == f"Vault not registered: {stranger}"
    created = front.act({"type": "createSubAccount", "name": "one"})["response"]["data"]
    move = {"type": "subAccountTransfer", "subAccountUser": created, "isDeposit": True, "usd": 1_000_000_000}
    assert front.act(move)["status"] == "ok"
    payload = front.signed(orders(wire()), vault=created)
    assert front.post(payload | {"vaultAddress": created[2:]})["status"] == "ok"
    assert len(front.ask("openOrders", user=created)) == 1
    assert front.ask("subAccounts")[0]["clearinghouseState"]["marginSummary"]["accountValue"] == "1000.0"


def leverage(asset: int, value: int, *, cross: bool = True) -> dict[str, Any]:
    """An updateLeverage action."""
    return {"type": "updateLeverage", "asset": asset, "isCross": cross, "leverage": value}


def test_leverage_when_impossible_is_refused_by_name() -> None:
    """Range, margin mode, open position."""
    front = Front()
    assert front.act(leverage(1, 26))["response"] == "Invalid leverage value"
    assert front.act(leverage(HOOD, 5))["response"] == "Cross margin is not allowed for this asset."
    assert front.act(leverage(HOOD, 5, cross=False))["status"] == "ok"
    front.house(Side.SELL, "1", "3900")
    front.order(tif="Ioc")
    text = "Cannot switch leverage type with open position."
    assert front.act(leverage(1, 5, cross=False))["response"] == text
    margin = {"type": "updateIsolatedMargin", "asset": 1, "isBuy": True, "ntli": 1_000_000}
    assert front.act(margin)["response"] == "Position does not use isolated margin."


def test_leverage_when_lowered_beyond_the_collateral_is_refused_and_kept() -> None:
    """A cross position needs the margin of the lower leverage."""
    front = Front(cash="100")
    front.house(Side.SELL, "1", "3900")
    assert "filled" in front.order(size="0.4", tif="Ioc")
    assert "sufficient margin available to decrease leverage" in front.act(leverage(1, 2))["response"]
    assert front.ask("activeAssetData", coin="ETH")["leverage"] == {"type": "cross", "value": 20}


def test_builder_when_not_approved_is_refused_and_when_approved_is_paid() -> None:
    """The fee of a fill includes the builder's."""
    front = Front()
    builder = "0x" + "7" * 40
    action = orders(wire(size="1", tif="Ioc")) | {"builder": {"b": builder, "f": 10}}
    front.house(Side.SELL, "1", "3900")
    assert front.act(action)["response"] == "Builder fee has not been approved."
    approval = {"maxFeeRate": "0.01%", "builder": builder, "nonce": front.nonce(), "type": "approveBuilderFee"}
    signature = official.sign_approve_builder_fee(WALLET, approval, False)
    front.post({"action": approval, "nonce": approval["nonce"], "signature": signature})
    assert front.ask("maxBuilderFee", builder=builder) == 10
    assert "filled" in front.act(action)["response"]["data"]["statuses"][0]
    (fill,) = front.ask("userFills")
    assert (fill["fee"], fill["builderFee"]) == ("2.145", "0.39")


def test_schedule_cancel_when_too_near_or_too_poor_is_refused() -> None:
    """Five seconds ahead, and volume first where configured."""
    front = Front(schedule_cancel_volume=1_000_000)
    assert front.act({"type": "scheduleCancel", "time": START_MS + 9000})["response"] == (
        "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0.00."
    )
    front = Front()
    assert front.act({"type": "scheduleCancel", "time": START_MS + 4999})["status"] == "err"
    front.order()
    assert front.act({"type": "scheduleCancel", "time": START_MS + 5000})["status"] == "ok"
    front.venue.step(START_MS + 5000)
    assert front.ask("openOrders") == []
    assert front.ask("historicalOrders")[0]["status"] == "scheduledCancel"


def test_transfers_when_sent_move_between_spot_perps_and_dexes() -> None:
    """USDC goes where it is sent and no further than there is."""
    front = Front()
    action = {"amount": "1000.5", "toPerp": False, "nonce": front.nonce(), "type": "usdClassTransfer"}
    signature = official.sign_usd_class_transfer_action(WALLET, action, False)
    front.post({"action": action, "nonce": action["nonce"], "signature": signature})
    assert front.ask("spotClearinghouseState")["balances"][0]["total"] == "11000.5"
    send = {
        "type": "sendAsset",
        "destination": USER,
        "sourceDex": "",
        "destinationDex": "xyz",
        "token": "USDC:0xeb62eee3685fc4c43992febcd9e75443",
        "amount": "8000",
        "fromSubAccount": "",
        "nonce": front.nonce(),
    }
    signature = official.sign_send_asset_action(WALLET, send, False)
    assert front.post({"action": send, "nonce": send["nonce"], "signature": signature})["status"] == "ok"
    assert front.ask("clearinghouseState", dex="xyz")["withdrawable"] == "18000.0"
    send = send | {"nonce": front.nonce()}
    signature = official.sign_send_asset_action(WALLET, send, False)
    body = front.post({"action": send, "nonce": send["nonce"], "signature": signature})
    assert body["response"] == "Insufficient balance for withdrawal"
    kinds = [row["delta"]["type"] for row in front.ask("userNonFundingLedgerUpdates", startTime=0)]
    assert kinds[-2:] == ["accountClassTransfer", "send"]
