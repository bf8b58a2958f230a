"""What a command does when an answer is lost, refused or late: exit codes, and never a second submit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.cli.runs import Cli
from tests.integration.cli.scripted import Router, order, scripted_router
from venuemesh import errors
from venuemesh.clock import SystemClock
from venuemesh.errors import MeshError, Sent
from venuemesh.security.certificates import ServerFiles, server_credentials
from venuemesh.security.local_certificates import write_certificates
from venuemesh.v1 import error_pb2, order_pb2, order_service_pb2, venue_service_pb2

LOST = (
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)
SUBMIT = ("order", "submit", "buy", "1", "BTC/USDC:USDC", "-p", "100", "-k", "k1", "-o", "json")


@pytest.fixture
def router() -> Iterator[Router]:
    """A router that answers what the test says."""
    with scripted_router() as running:
        yield running


@pytest.fixture
def cli(router: Router) -> Cli:
    """The command line, pointed at it."""
    return Cli(VENUEMESH_ROUTER=router.address, VENUEMESH_AGGREGATOR="127.0.0.1:1")


@pytest.mark.parametrize("code", LOST)
def test_submit_when_the_answer_is_lost_is_never_sent_twice(router: Router, cli: Cli, code: grpc.StatusCode) -> None:
    """P36: whatever the transport says, one submit; then the order is read by its key, and nothing is claimed."""
    router.script["SubmitOrder"] = code
    ran = cli(*SUBMIT, "--settle", "0", code=3)
    assert router.count("SubmitOrder") == 1
    assert router.count("GetOrder") == 1
    assert ran.json["outcome"] == "SUBMIT_OUTCOME_UNKNOWN"
    assert ran.json["order"]["terms"]["clientOrderId"] == "k1"
    assert ran.json["order"]["status"] == "ORDER_STATUS_UNSPECIFIED"
    assert "OUTCOME UNKNOWN" in ran.err and "repeat with --client-order-id k1" in ran.err


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        (order_pb2.ORDER_STATUS_NEW, "ACKNOWLEDGED", 0),
        (order_pb2.ORDER_STATUS_FILLED, "ACKNOWLEDGED", 0),
        (order_pb2.ORDER_STATUS_REJECTED, "REJECTED", 1),
        (order_pb2.ORDER_STATUS_UNCERTAIN, "UNKNOWN", 3),
        (order_pb2.ORDER_STATUS_PENDING_NEW, "PENDING", 3),
    ],
)
def test_submit_when_lost_reports_what_the_order_proves(
    router: Router, cli: Cli, status: Any, outcome: str, code: int
) -> None:
    """A state read back is evidence; an uncertain one is not."""
    router.script["SubmitOrder"] = grpc.StatusCode.DEADLINE_EXCEEDED
    found = order(status)
    if status == order_pb2.ORDER_STATUS_REJECTED:
        found.reject.reason = error_pb2.REASON_NEVER_REACHED_VENUE
    router.script["GetOrder"] = order_service_pb2.GetOrderResponse(order=found)
    assert cli(*SUBMIT, "--settle", "0", code=code).json["outcome"] == f"SUBMIT_OUTCOME_{outcome}"


def test_submit_when_lost_waits_for_the_order_to_settle(router: Router, cli: Cli) -> None:
    """Not known, in doubt, then live: the last one counts."""
    router.script["SubmitOrder"] = grpc.StatusCode.UNAVAILABLE
    router.script["GetOrder"] = [
        errors.OrderNotFound("not yet"),
        order_service_pb2.GetOrderResponse(order=order(order_pb2.ORDER_STATUS_UNCERTAIN)),
        order_service_pb2.GetOrderResponse(order=order(order_pb2.ORDER_STATUS_NEW)),
    ]
    assert cli(*SUBMIT, "--settle", "60").json["outcome"] == "SUBMIT_OUTCOME_ACKNOWLEDGED"
    assert router.count("GetOrder") == 3


def test_submit_when_pending_is_fine_only_where_it_was_asked_for(router: Router, cli: Cli) -> None:
    """`--ack gateway` wants no more than that it was sent."""
    pending = order_service_pb2.SUBMIT_OUTCOME_PENDING
    router.script["SubmitOrder"] = order_service_pb2.SubmitOrderResponse(order=order(1), outcome=pending)
    cli(*SUBMIT, code=3)
    cli(*SUBMIT, "--ack", "gateway", code=0)


def test_submit_when_nothing_listens_was_certainly_not_sent() -> None:
    """No connection, no doubt: exit 4, and the same command may be tried later."""
    ran = Cli(VENUEMESH_ROUTER="127.0.0.1:1")(*SUBMIT, "--account", "main", code=4)
    assert (ran.error["sent"], ran.error["reason"]) == ("no", "GATEWAY_UNAVAILABLE")


def _all_errors(parent: type[MeshError] = MeshError) -> Iterator[type[MeshError]]:
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _all_errors(child)


@pytest.mark.parametrize("kind", sorted(set(_all_errors()), key=lambda one: one.__name__))
def test_submit_when_refused_with_any_error_exits_by_its_meaning(
    router: Router, cli: Cli, kind: type[MeshError]
) -> None:
    """Certainly not sent: refused, unavailable or a fault; in doubt otherwise, whatever the code."""
    code = {"UNAVAILABLE": 4, "RESOURCE_EXHAUSTED": 4, "DEADLINE_EXCEEDED": 4, "INTERNAL": 5}.get(kind.code.name, 1)
    error = kind("as the test says", sent=Sent.NO, retry_after_s=1.5, metadata={"venue": "moon"})
    router.script["SubmitOrder"] = error
    told = cli(*SUBMIT, code=code).error
    assert (told["reason"], told["message"]) == (error.reason.value, "as the test says")
    assert (told["retryAfterSeconds"], told["metadata"]) == (1.5, {"venue": "moon"})
    assert told["exit"] == code and told["advice"]
    router.script["SubmitOrder"] = kind("as the test says", sent=Sent.MAYBE)
    cli(*SUBMIT, "--settle", "0", code=3)


def test_read_when_the_service_is_away_for_a_moment_is_tried_again(router: Router, cli: Cli) -> None:
    """A read may be repeated; a person should not have to."""
    router.script["ListVenues"] = [grpc.StatusCode.UNAVAILABLE, venue_service_pb2.ListVenuesResponse()]
    assert cli("venues", "-o", "json").json == {"venues": []}
    assert router.count("ListVenues") == 2


def test_read_when_the_venue_may_have_been_asked_is_no_doubt(router: Router, cli: Cli) -> None:
    """Only a write can leave something behind."""
    router.script["ListVenues"] = errors.VenueUnavailable("slow", sent=Sent.MAYBE)
    assert cli("venues", "-o", "json", code=4).error["sent"] == "no"


def test_amend_when_the_answer_is_lost_shows_the_order_and_exits_3(router: Router, cli: Cli) -> None:
    """Its request id makes a repeat safe, so it is said."""
    router.script["ReplaceOrder"] = grpc.StatusCode.DEADLINE_EXCEEDED
    router.script["GetOrder"] = order_service_pb2.GetOrderResponse(order=order(order_pb2.ORDER_STATUS_NEW))
    ran = cli("order", "amend", "k1", "-q", "2", "--request-id", "r1", "-o", "json", code=3)
    assert ran.json["order"]["status"] == "ORDER_STATUS_NEW"
    assert "--request-id r1 is safe" in ran.err
    assert router.count("ReplaceOrder") == 1


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        (order_pb2.ORDER_STATUS_CANCELED, "CANCELED", 0),
        (order_pb2.ORDER_STATUS_FILLED, "ALREADY_TERMINAL", 0),
        (order_pb2.ORDER_STATUS_NEW, "UNKNOWN", 3),
    ],
)
def test_cancel_when_the_answer_is_lost_reports_what_the_order_proves(
    router: Router, cli: Cli, status: Any, outcome: str, code: int
) -> None:
    """An order that has ended needs no cancel; one that works may still be on its way out."""
    terminal = status != order_pb2.ORDER_STATUS_NEW
    router.script["CancelOrder"] = grpc.StatusCode.DEADLINE_EXCEEDED
    router.script["GetOrder"] = order_service_pb2.GetOrderResponse(order=order(status, terminal=terminal))
    ran = cli("order", "cancel", "k1", "--settle", "0", "-o", "json", code=code)
    assert ran.json["outcome"] == f"CANCEL_OUTCOME_{outcome}"


def test_cancel_when_the_service_is_away_for_a_moment_is_tried_again(router: Router, cli: Cli) -> None:
    """Cancels get through: a repeat leads to the same state."""
    canceled = order_service_pb2.CancelOrderResponse(
        order=order(order_pb2.ORDER_STATUS_CANCELED), outcome=order_service_pb2.CANCEL_OUTCOME_CANCELED
    )
    router.script["CancelOrder"] = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, canceled]
    cli("order", "cancel", "k1")
    assert router.count("CancelOrder") == 3


@pytest.mark.parametrize(
    ("outcomes", "unreached", "code"),
    [
        (("CANCELED", "ALREADY_TERMINAL"), (), 0),
        (("CANCELED", "REJECTED"), (), 1),
        (("REJECTED", "UNKNOWN"), ("lighter: away",), 3),
        (("CANCELED",), ("lighter: away",), 4),
    ],
)
def test_cancel_all_exits_with_the_worst_of_its_parts(
    router: Router, cli: Cli, outcomes: tuple[str, ...], unreached: tuple[str, ...], code: int
) -> None:
    """A venue that was not reached is said, and never passed over."""
    results = [
        order_service_pb2.CancelOrderResponse(
            order=order(order_pb2.ORDER_STATUS_NEW),
            outcome=order_service_pb2.CancelOutcome.Value(f"CANCEL_OUTCOME_{name}"),
        )
        for name in outcomes
    ]
    router.script["CancelAllOrders"] = order_service_pb2.CancelAllOrdersResponse(results=results, unreached=unreached)
    ran = cli("cancel-all", "--yes", code=code)
    assert ("NOT REACHED" in ran.out) == bool(unreached)


def test_account_when_there_are_several_must_be_named(router: Router, cli: Cli) -> None:
    """No order goes to an account that nobody chose."""
    accounts = router.script["ListAccounts"].accounts
    accounts.add(account_id="hedge")
    assert "--account: name one of hedge, main" in cli(*SUBMIT, code=2).err
    assert router.count("SubmitOrder") == 0


def test_table_when_a_venue_sends_control_characters_shows_none(router: Router, cli: Cli) -> None:
    """A venue's words must not rewrite the terminal."""
    found = order(order_pb2.ORDER_STATUS_REJECTED)
    found.reject.venue_text = "no\x1b[2Jway"
    router.script["GetOrder"] = order_service_pb2.GetOrderResponse(order=found)
    refused = order_service_pb2.SubmitOrderResponse(
        order=found, outcome=order_service_pb2.SUBMIT_OUTCOME_REJECTED, reject=found.reject
    )
    router.script["SubmitOrder"] = refused
    shown = cli(*SUBMIT[:-2], code=1).out
    assert "\x1b" not in shown and "no?[2Jway" in shown


def test_token_goes_over_tls_with_the_call_and_never_in_the_clear_to_another_machine(tmp_path: Path) -> None:
    """`--ca` and `--token-file`; a token without TLS leaves this machine for nobody."""
    write_certificates(tmp_path, ("router",), ("localhost", "127.0.0.1"), datetime.now(UTC))
    files = ServerFiles(cert_file=tmp_path / "router.pem", key_file=tmp_path / "router.key")
    token = tmp_path / "token"
    token.write_text("very-secret\n")
    token.chmod(0o600)
    with scripted_router(server_credentials(files, SystemClock())) as router:
        router.script["ListVenues"] = venue_service_pb2.ListVenuesResponse()
        cli = Cli(VENUEMESH_ROUTER=router.address, VENUEMESH_TOKEN_FILE=str(token))
        cli("venues", "--ca", str(tmp_path / "ca.pem"))
        assert router.metadata["authorization"] == "Bearer very-secret"
        refused = cli("--router", "10.0.0.1:50050", "venues", code=2)
    assert "only over TLS" in refused.err
    assert "very-secret" not in refused.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--router", "nowhere", "venues"), "--router: must be host:port"),
        (("--router", "h:99999", "venues"), "--router: must be host:port"),
        (("--token-file", "/nowhere/token", "venues"), "--token-file"),
        (("--ca", "/nowhere/ca.pem", "venues"), "/nowhere/ca.pem"),
        (("--cert", "c.pem", "venues"), "--cert and --cert-key"),
        (("order", "submit", "buy", "many", "BTC/USDC:USDC"), "QUANTITY: must be a number"),
        (("order", "submit", "hold", "1", "BTC/USDC:USDC"), "hold"),
        (("order", "submit", "buy", "1", "BTC/USDC:USDC", "--expire", "soon"), "--expire"),
        (("order", "submit", "buy", "1", "BTC/USDC:USDC", "--tag", "x"), "--tag: must be key=value"),
        (("order", "submit", "buy", "1", "BTC/USDC:USDC", "--trigger-by", "mark"), "needs --trigger"),
        (("order", "amend", "k1"), "at least one of --quantity, --price, --trigger"),
        (("order", "show"), "exactly one of KEY, --order-id, --venue-order-id"),
        (("order", "show", "k1", "--order-id", "x"), "exactly one of"),
        (("nonsense",), "nonsense"),
    ],
)
def test_command_line_when_wrong_names_the_option_and_calls_nobody(
    router: Router, cli: Cli, arguments: tuple[str, ...], says: str
) -> None:
    """Exit 2, before anything is sent."""
    assert says in cli(*arguments, code=2).err
    assert router.calls == []


def test_usage_fault_when_output_is_json_is_json_too(cli: Cli) -> None:
    """A script reads one format."""
    error = json.loads(cli("-o", "json", "order", "amend", "k1", code=2).err)["error"]
    assert (error["reason"], error["exit"]) == ("USAGE", 2)


def test_options_stand_before_or_behind_the_command_and_the_nearer_one_wins(router: Router) -> None:
    """Behind the command, then before it, then the environment."""
    router.script["ListVenues"] = venue_service_pb2.ListVenuesResponse()
    cli = Cli(VENUEMESH_ROUTER="127.0.0.1:1")
    cli("venues", "--router", router.address)
    cli("--router", router.address, "venues")
    cli("--router", "127.0.0.1:2", "venues", "--router", router.address)
    assert router.count("ListVenues") == 3
