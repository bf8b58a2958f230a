"""Each command against a real local mesh that `venuemesh up` started."""

from __future__ import annotations

import json
import re
import uuid

import pytest
from google.protobuf import json_format

from tests.integration.cli.runs import Cli, LocalMesh
from venuemesh.v1 import (
    account_service_pb2,
    market_data_service_pb2,
    operations_service_pb2,
    order_service_pb2,
    portfolio_service_pb2,
    reconciliation_service_pb2,
    risk_service_pb2,
    routing_service_pb2,
    venue_service_pb2,
)

pytestmark = pytest.mark.xdist_group("cli")

VENUE, SYMBOL = "hyperliquid", "BTC/USDC:USDC"
LOSING, DOUBTFUL = "tradexyz", "lighter"
"""Venues whose links the tests of lost answers cut; no other test sends orders there by name."""
FAR = "40000"
"""A limit price far below the simulated market: it rests."""


def fresh_key() -> str:
    return f"t-{uuid.uuid4().hex[:20]}"


def rest(cli: Cli, *more: str) -> str:
    """The key of a limit order that rests."""
    key = fresh_key()
    cli.json("order", "submit", "buy", "0.01", SYMBOL, "-p", FAR, "-v", VENUE, "-k", key, *more)
    return key


# --- reading ---


def test_status_when_all_is_well_says_so_for_people_and_scripts(cli: Cli) -> None:
    """Services, venues, trading, switch, doubts and freshness, in one look."""
    table = cli("status").out
    assert re.search(r"router +SERVING", table) and re.search(r"aggregator +SERVING", table)
    assert all(name in table for name in ("hyperliquid", "lighter", "tradexyz", "kill switch", "orders in doubt"))
    found = cli.json("status")
    assert found["well"] is True
    assert found["health"] == {"router": "SERVING", "aggregator": "SERVING"}
    json_format.ParseDict(found["venues"], venue_service_pb2.ListVenuesResponse())
    json_format.ParseDict(found["risk"], risk_service_pb2.GetRiskStateResponse())


def test_status_when_the_router_is_away_exits_4_and_shows_the_rest(cli: Cli) -> None:
    """What does not answer is said in its place."""
    ran = cli("--router", "127.0.0.1:1", "status", code=4)
    assert "router at 127.0.0.1:1 cannot be reached" in ran.out
    assert re.search(r"aggregator +SERVING", ran.out)


def test_venues_lists_all_and_shows_one_with_what_it_takes(cli: Cli) -> None:
    """The capability record, readable."""
    assert "SIMULATOR" in cli("venues").out
    one = cli("venues", VENUE).out
    assert "orders it takes" in one and "STOP_MARKET" in one and "user/main" in one
    assert cli("venues", "nowhere", code=1).err.startswith("refused: VENUE_NOT_FOUND")


def test_book_of_one_venue_and_over_all(cli: Cli) -> None:
    """Asks above bids; a consolidated level names its venue."""
    one = cli("book", SYMBOL, "--venue", VENUE, "--depth", "3").out
    assert one.index("SELL") < one.index("BUY") and "spread" in one
    book = cli.json("book", SYMBOL, "-d", "5")
    found = json_format.ParseDict(book, market_data_service_pb2.GetOrderBookResponse()).order_book
    assert {level.venue for level in found.bids} <= {"hyperliquid", "lighter"}
    assert found.bids


def test_trades_are_listed_and_followed(cli: Cli) -> None:
    """A stream is one JSON object a line."""
    table = cli("trades", SYMBOL, "-v", VENUE, "-n", "3").out
    assert "taker" in table
    seen = cli("trades", SYMBOL, "-v", VENUE, "--watch", "--updates", "1", "-o", "json").lines
    messages = [json_format.ParseDict(line, market_data_service_pb2.StreamTradesResponse()) for line in seen]
    assert messages[0].WhichOneof("body") == "acknowledgement"
    assert messages[-1].WhichOneof("body") == "trade"


# --- orders ---


def test_order_from_submit_to_cancel(cli: Cli) -> None:
    """Submit, show, list, amend, cancel, and cancel once more."""
    key = rest(cli, "--tag", "desk=one")
    shown = json_format.ParseDict(cli.json("order", "show", key), order_service_pb2.GetOrderResponse()).order
    assert (shown.terms.price, shown.terms.tags["desk"]) == (FAR, "one")
    assert key in cli("order", "list", "--open", "--symbol", SYMBOL).out
    assert cli.json("order", "show", "--order-id", shown.order_id)["order"]["terms"]["clientOrderId"] == key
    amended = cli("order", "amend", key, "--price", "41000.0")
    assert re.search(r"price +41000\b", amended.out) and "request id cli-" in amended.err
    canceled = cli("order", "cancel", key)
    assert re.search(r"outcome +CANCELED", canceled.out)
    assert cli.json("order", "cancel", key)["outcome"] == "CANCEL_OUTCOME_ALREADY_TERMINAL"
    listed = cli.json("order", "list", "--status", "canceled", "-n", "1")["orders"]
    assert len(listed) == 1


def test_submit_without_a_key_says_the_one_it_made_before_it_sends(cli: Cli) -> None:
    """With the key on the screen nothing is lost when the answer is; a repeat of it replays."""
    ran = cli("order", "submit", "buy", "0.0010", SYMBOL, "-v", VENUE)
    key = re.match(r"client order id (cli-[0-9a-f]{24}): buy 0\.001 BTC", ran.err)
    assert key is not None
    assert re.search(r"status +FILLED", ran.out)
    assert "fills" in cli("order", "show", key[1]).out
    again = cli("order", "submit", "buy", "0.001", SYMBOL, "-v", VENUE, "-k", key[1])
    assert "nothing was sent now" in again.out


def test_submit_through_the_router_finds_a_venue_and_its_outcome_is_listed(cli: Cli) -> None:
    """Plan, order, and what it cost."""
    plan = cli("route", "plan", "buy", "0.002", SYMBOL)
    assert "goes to" in plan.out and "INSTRUMENT_NOT_FOUND" in plan.out
    answer = cli.json("route", "plan", "sell", "0.002", SYMBOL, "--strategy", "best-price", "--exclude", "lighter")
    legs = json_format.ParseDict(answer, routing_service_pb2.PlanRouteResponse()).plan.legs
    assert [leg.venue for leg in legs] == [VENUE]
    key = fresh_key()
    cli.json("order", "submit", "buy", "0.002", SYMBOL, "-k", key)
    found = cli.json("route", "outcomes", "--since", "10m")
    outcomes = json_format.ParseDict(found, routing_service_pb2.ListRoutingOutcomesResponse()).outcomes
    assert key in {one.route.order.client_order_id for one in outcomes}
    assert "decided" in cli("route", "outcomes", "-n", "1").out


def test_submit_when_refused_says_reason_field_and_what_to_do(cli: Cli) -> None:
    """For people as rows, for scripts as one JSON object on standard error."""
    wrong = ("order", "submit", "buy", "0.01", SYMBOL, "-p", "40000.123", "-v", VENUE)
    ran = cli(*wrong, code=1)
    assert "refused: PRICE_OFF_TICK" in ran.err and "nearest above" in ran.err and "order.price" in ran.err
    assert re.search(r"^do +Use a price", ran.err, re.MULTILINE)
    error = cli(*wrong, "-o", "json", code=1).error
    assert (error["reason"], error["field"], error["sent"], error["exit"]) == ("PRICE_OFF_TICK", "order.price", "no", 1)
    assert error["advice"]


def test_submit_when_dry_sends_nothing_and_says_what_would_refuse_it(cli: Cli) -> None:
    """The exit code says it too."""
    key = fresh_key()
    good = ("order", "submit", "buy", "0.01", SYMBOL, "-v", VENUE, "-p", FAR, "--dry-run", "-k", key)
    assert "it would be sent" in cli(*good).out
    assert "PRICE_OFF_TICK" in cli(*good, "-p", "40000.123", code=1).out
    assert "ORDER_NOT_FOUND" in cli("order", "show", key, "-v", VENUE, code=1).err


def test_submit_when_the_venue_loses_the_answer_reads_it_back(cli: Cli, local_mesh: LocalMesh) -> None:
    """The order took effect; the gateway finds it, and the command waits for that."""
    local_mesh.fault("drop_reply", "order")
    key = fresh_key()
    order = ("buy", "1", "TSLA/USDC:USDC", "-p", "100", "-v", LOSING)
    ran = cli("order", "submit", *order, "-k", key, "--settle", "60")
    assert f"OUTCOME UNKNOWN: sent, and not answered. Reading back {key}." in ran.err
    assert re.search(r"outcome +ACKNOWLEDGED", ran.out)
    cli("order", "cancel", key)


def test_submit_when_nobody_can_tell_exits_3_and_the_order_is_in_doubt(cli: Cli, local_mesh: LocalMesh) -> None:
    """Nothing at the venue proves nothing yet: never a guess."""
    local_mesh.fault("reset_before", "create_order", venue=DOUBTFUL)
    key = fresh_key()
    submit = ("order", "submit", "buy", "0.01", SYMBOL, "-p", FAR, "-v", DOUBTFUL, "-k", key, "--settle", "0")
    ran = cli(*submit, "-o", "json", code=3)
    assert ran.json["outcome"] == "SUBMIT_OUTCOME_UNKNOWN"
    assert f"repeat with --client-order-id {key}" in ran.err
    found = cli("stuck", "--for", "1ms")
    assert key in found.out and "evidence" in found.out
    listed = json_format.ParseDict(cli.json("stuck", "list"), reconciliation_service_pb2.ListUncertainOrdersResponse())
    assert key in {one.order.terms.client_order_id for one in listed.uncertain_orders}
    resolve = ("stuck", "resolve", key, "--by", "query", "-v", DOUBTFUL, "--operator", "ana")
    assert "--reason" in cli(*resolve, code=2).err
    assert key in cli(*resolve, "--reason", "drill").out
    forced = ("stuck", "resolve", key, "--by", "declare-rejected", "-v", DOUBTFUL, "--reason", "drill")
    assert "--yes" in cli(*forced, code=2).err
    assert "REJECTED" in cli(*forced, "--yes").out


def test_list_when_watching_shows_each_change_of_an_order(cli: Cli) -> None:
    """Of one venue from the router, what works first; of all venues from the aggregator, from now on."""
    key = rest(cli)
    one = cli("order", "list", "--watch", "-v", VENUE, "--updates", "1")
    assert "ORDER_STATUS" in one.out or "NEW" in one.out
    with cli.running("order", "list", "--watch", "--updates", "1", "-o", "json") as watching:
        assert watching.stdout is not None
        assert "acknowledgement" in json.loads(watching.stdout.readline())
        cli("order", "cancel", key)
        *_, last = watching.stdout
        assert watching.wait() == 0
    message = json_format.ParseDict(json.loads(last), portfolio_service_pb2.StreamExecutionsResponse())
    assert message.event.execution_report.order.terms.client_order_id == key


def test_cancel_all_in_a_script_needs_yes(cli: Cli) -> None:
    """Nobody can be asked, so nothing is done without it."""
    key = rest(cli)
    refused = cli("cancel-all", code=2)
    assert "--yes" in refused.err
    assert cli.json("order", "show", key)["order"]["working"] is True
    answer = cli.json("cancel-all", "--yes", "--venue", VENUE, "--side", "buy")
    found = json_format.ParseDict(answer, order_service_pb2.CancelAllOrdersResponse())
    assert key in {one.order.terms.client_order_id for one in found.results}
    assert "nothing was working" in cli("cancel-all", "-y", "-v", VENUE).out


# --- what is held ---


def test_positions_balances_and_portfolio_tell_the_same(cli: Cli) -> None:
    """The one position there is, seen three ways."""
    cli.json("order", "submit", "buy", "0.001", SYMBOL, "-v", VENUE)
    held = json_format.ParseDict(cli.json("positions", "-s", SYMBOL), account_service_pb2.ListPositionsResponse())
    assert [(one.venue, one.symbol) for one in held.positions if one.venue == VENUE] == [(VENUE, SYMBOL)]
    assert SYMBOL in cli("positions").out
    assert "USDC" in cli("balances", "-v", VENUE).out
    money = json_format.ParseDict(cli.json("balances"), account_service_pb2.ListBalancesResponse())
    assert {one.venue for one in money.balances} == {"hyperliquid", "lighter", "tradexyz"}
    assert "net positions" in cli("portfolio", "show").out
    whole = json_format.ParseDict(cli.json("portfolio", "show"), portfolio_service_pb2.GetPortfolioResponse())
    assert SYMBOL in {one.symbol for one in whole.portfolio.net_positions}


def test_portfolio_watch_begins_with_a_snapshot_and_stops_after_the_updates_asked_for(cli: Cli) -> None:
    """One message a line for scripts, a table a change for a file; an open position changes with its mark."""
    cli("order", "submit", "buy", "0.001", SYMBOL, "-v", VENUE)
    seen = cli("portfolio", "watch", "--updates", "2", "--every-ms", "50", "-o", "json").lines
    messages = [json_format.ParseDict(line, portfolio_service_pb2.StreamPortfolioResponse()) for line in seen]
    assert "snapshot" in [message.WhichOneof("body") for message in messages]
    assert cli("portfolio", "watch", "--updates", "2", "--every-ms", "50").out.count("totals") == 2


# --- risk and operation ---


def test_limit_when_set_refuses_an_order_and_when_removed_does_not(cli: Cli) -> None:
    """From the command line to the submit path and back."""
    limit = ("risk", "limit", "max-order-quantity", "--symbol", "SOL/USDC:USDC", "--reason", "drill")
    assert "version" in cli(*limit[:3], "1", *limit[3:]).out
    assert "MAX_ORDER_QUANTITY" in cli("risk").out
    error = cli("order", "submit", "buy", "2", "SOL/USDC:USDC", "-p", "50", "-v", VENUE, "-o", "json", code=1).error
    assert error["reason"] == "RISK_LIMIT_REACHED"
    assert "removed" in cli(*limit, "--remove").out
    assert "--remove" in cli(*limit, code=2).err
    assert cli.json("risk", "show")["riskState"]["limits"] == []


def test_trading_when_halted_refuses_orders_and_lets_cancels_pass(cli: Cli) -> None:
    """Of one symbol, so that no other test notices."""
    trading = ("risk", "trading", "halted", "--symbol", "ETH/USDC:USDC", "-v", VENUE)
    assert "--reason" in cli(*trading, code=2).err
    assert "HALTED" in cli(*trading, "--reason", "drill", "--operator", "ana").out
    error = cli("order", "submit", "buy", "0.1", "ETH/USDC:USDC", "-p", "1000", "-v", VENUE, "-o", "json", code=1).error
    assert error["reason"] == "TRADING_HALTED"
    assert "HALTED for hyperliquid ETH/USDC:USDC by ana: drill" in cli("status").out
    cli(*trading[:2], "active", *trading[3:], "--reason", "over")


def test_kill_switch_halts_cancels_and_lets_go_again(cli: Cli) -> None:
    """Each venue confirms; a script must say --yes."""
    key = rest(cli)
    scope = ("--venue", VENUE, "--symbol", SYMBOL, "--reason", "drill")
    assert "--yes" in cli("kill-switch", "engage", *scope, code=2).err
    engaged = cli.json("kill-switch", "engage", *scope, "--yes")
    switch = json_format.ParseDict(engaged, risk_service_pb2.EngageKillSwitchResponse()).kill_switch
    assert switch.engaged and all(one.verified for one in switch.venues)
    try:
        assert cli.json("order", "show", key)["order"]["status"] == "ORDER_STATUS_CANCELED"
        assert "ENGAGED" in cli("kill-switch").out
        error = cli("order", "submit", "buy", "0.01", SYMBOL, "-p", FAR, "-v", VENUE, "-o", "json", code=1).error
        assert error["reason"] == "KILL_SWITCH_ACTIVE"
    finally:
        assert "released" in cli("kill-switch", "release", *scope, "--yes").out
    assert "ENGAGED" not in cli("kill-switch", "show").out


def test_audit_tells_what_was_said_to_the_venue_about_an_order(cli: Cli) -> None:
    """By the mesh's id, and in full for scripts."""
    key = rest(cli)
    order_id = cli.json("order", "cancel", key)["order"]["orderId"]
    entries = cli.json("audit", "--order-id", order_id, "--since", "1h", "--outcome", "ok")
    found = json_format.ParseDict(entries, operations_service_pb2.ListAuditEntriesResponse()).audit_entries
    assert [one.endpoint for one in found] == ["post.cancel", "post.order"]
    assert "post.order" in cli("audit", "--order-id", order_id, "-v", VENUE).out


def test_dead_letters_when_there_are_none_says_so(cli: Cli) -> None:
    """And a number nobody has is refused by name."""
    assert "no dead letters" in cli("dead-letters").out
    answer = cli.json("dead-letters", "list")
    json_format.ParseDict(answer, operations_service_pb2.ListDeadLettersResponse())
    missing = cli("dead-letters", "requeue", "999", "--reason", "drill", "-o", "json", code=1)
    assert missing.error["reason"] == "DEAD_LETTER_NOT_FOUND"
