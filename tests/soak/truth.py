"""Reads the truth: the venue's own books, and what the gateway answers and the journal holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx

from tests.soak.ledger import OurOrder, OurTruth, VenueFill, VenueOrder, VenueTruth
from tests.soak.mesh import HYPERLIQUID, SoakAccount, SoakMesh
from venuemesh.bus import Bus, BusOptions
from venuemesh.journal import AccountHistory, OrderJournal
from venuemesh.subjects import JOURNAL_STREAM, Kind, subject
from venuemesh.v1 import account_service_pb2, account_service_pb2_grpc, event_pb2, order_service_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2_grpc as order_stubs

ZERO = Decimal(0)
CALL_S = 20.0
PAGE = 1_000
_MARKETS = {0: "ETH/USDC:USDC", 1: "BTC/USDC:USDC", 2: "SOL/USDC:USDC"}


@asynccontextmanager
async def reading_bus(mesh: SoakMesh) -> AsyncIterator[Bus]:
    """A connection of our own to the broker."""
    options = BusOptions(servers=[mesh.nats_url], name="soak-reader", timeout_s=5.0, reconnect_wait_s=0.05)
    async with Bus.connect(options) as bus:
        yield bus


# the venue


async def venue_truth(mesh: SoakMesh, account: SoakAccount) -> VenueTruth:
    """One account in the venue's own books."""
    orders = await mesh.venue("GET", f"/sim/orders?user={account.user}", venue=account.venue)
    fills = await mesh.venue("GET", f"/sim/fills?user={account.user}", venue=account.venue)
    if account.venue == HYPERLIQUID:
        return VenueTruth(
            orders=[_hyperliquid_order(row) for row in orders],
            fills=[_hyperliquid_fill(row) for row in fills],
            positions=await _hyperliquid_positions(mesh, account),
        )
    return VenueTruth(
        orders=[_lighter_order(row) for row in orders],
        fills=[fill for row in fills for fill in _lighter_fills(row, int(account.user))],
        positions=await _lighter_positions(mesh, account),
    )


def _hyperliquid_order(row: dict[str, Any]) -> VenueOrder:
    order, status = row["order"], str(row["status"])
    return VenueOrder(
        venue_order_id=str(order["oid"]),
        client_id=order["cloid"] or "",
        symbol=_perpetual(order["coin"]),
        open=status == "open",
        refused=status.endswith("ejected"),
        price=Decimal(order["limitPx"]),
    )


def _hyperliquid_fill(row: dict[str, Any]) -> VenueFill:
    return VenueFill(
        trade_id=str(row["tid"]),
        venue_order_id=str(row["oid"]),
        symbol=_perpetual(row["coin"]),
        signed_quantity=Decimal(row["sz"]) * (1 if row["side"] == "B" else -1),
    )


async def _hyperliquid_positions(mesh: SoakMesh, account: SoakAccount) -> dict[str, Decimal]:
    url = mesh.known["simulator"]["hyperliquid_url"]
    async with httpx.AsyncClient(base_url=url, timeout=CALL_S, verify=False) as client:
        answer = await client.post("/info", json={"type": "clearinghouseState", "user": account.user})
    rows = [row["position"] for row in answer.raise_for_status().json()["assetPositions"]]
    return {_perpetual(row["coin"]): Decimal(row["szi"]) for row in rows}


def _lighter_order(row: dict[str, Any]) -> VenueOrder:
    status = str(row["status"])
    refused = status.startswith("canceled-") and not Decimal(row["filled_base_amount"])
    return VenueOrder(
        venue_order_id=str(row["order_index"]),
        client_id=str(row["client_order_index"]),
        symbol=_MARKETS[row["market_index"]],
        open=status in ("open", "pending"),
        refused=refused,
        ended_at_once=refused,
        price=Decimal(row["price"]),
    )


def _lighter_fills(row: dict[str, Any], index: int) -> list[VenueFill]:
    """The account's sides of a trade: both when it traded with itself."""
    sides = (("bid", 1), ("ask", -1))
    return [
        VenueFill(
            trade_id=str(row["trade_id"]),
            venue_order_id=str(row[f"{side}_id"]),
            symbol=_MARKETS[row["market_id"]],
            signed_quantity=Decimal(row["size"]) * sign,
        )
        for side, sign in sides
        if row[f"{side}_account_id"] == index
    ]


async def _lighter_positions(mesh: SoakMesh, account: SoakAccount) -> dict[str, Decimal]:
    url = mesh.known["simulator"]["lighter_url"]
    async with httpx.AsyncClient(base_url=url, timeout=CALL_S, verify=False) as client:
        answer = await client.get("/api/v1/account", params={"by": "index", "value": account.user})
    (found,) = answer.raise_for_status().json()["accounts"]
    rows = found["positions"]
    return {_MARKETS[row["market_id"]]: Decimal(row["position"]) * row["sign"] for row in rows}


def _perpetual(coin: str) -> str:
    return f"{coin}/USDC:USDC"


# the mesh


async def our_truth(mesh: SoakMesh, bus: Bus, account: SoakAccount) -> tuple[OurTruth, list[event_pb2.Event]]:
    """One account as the gateway answers and the journal holds it, with the stored events."""
    orders = [_our_order(order) for order in await list_orders(mesh, account)]
    journal = OrderJournal(bus, account.venue)
    intents = [
        intent.order.terms.client_order_id
        async for intent in journal.intents_since(account.account_id, None)
        # What an amendment journals is the order with its new terms, no order of its own.
        if intent.order.status == pb.ORDER_STATUS_PENDING_NEW
    ]
    events = [event async for event in AccountHistory(bus, account.venue, account.account_id).replay()]
    reports = [event.execution_report for event in events if event.HasField("execution_report")]
    stored = {
        report.order.terms.client_order_id: status_word(report.order.status)
        for report in reports
        if report.HasField("order")
    }
    truth = OurTruth(
        orders=orders,
        intents=intents,
        outcomes=await _outcomes(bus, account),
        stored=stored,
        fills=[report.fill.trade_id for report in reports if report.HasField("fill")],
        positions=await _our_positions(mesh, account),
        sequences=[event.sequence for event in events],
    )
    return truth, events


async def list_orders(mesh: SoakMesh, account: SoakAccount) -> list[pb.Order]:
    """Every order of the account that its gateway knows."""
    stub: Any = order_stubs.OrderServiceStub(mesh.channel(f"gateway_{account.venue}"))
    request = order_service_pb2.ListOrdersRequest(account_id=account.account_id, page_size=PAGE)
    found: list[pb.Order] = []
    while True:
        answer = await stub.ListOrders(request, timeout=CALL_S)
        found.extend(answer.orders)
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def _outcomes(bus: Bus, account: SoakAccount) -> dict[str, str]:
    names = [subject(Kind.OUTCOME, account.venue, account.account_id, "").removesuffix("-") + ">"]
    found = {}
    async for message in bus.replay(JOURNAL_STREAM, names):
        outcome = event_pb2.OrderOutcome.FromString(message.payload)
        if outcome.HasField("order"):
            found[outcome.order.terms.client_order_id] = status_word(outcome.order.status)
    return found


async def _our_positions(mesh: SoakMesh, account: SoakAccount) -> dict[str, Decimal]:
    stub: Any = account_service_pb2_grpc.AccountServiceStub(mesh.channel(f"gateway_{account.venue}"))
    request = account_service_pb2.ListPositionsRequest(account_id=account.account_id)
    answer = await stub.ListPositions(request, timeout=CALL_S)
    return {row.symbol: Decimal(row.quantity) for row in answer.positions}


def _our_order(order: pb.Order) -> OurOrder:
    return OurOrder(
        key=order.terms.client_order_id,
        venue_client_id=order.venue_client_order_id,
        venue_order_ids=tuple(order.venue_order_ids),
        working=order.working,
        status=status_word(order.status),
        in_doubt=in_doubt(order),
        price=Decimal(order.terms.price) if order.terms.HasField("price") else None,
        quantity=Decimal(order.terms.quantity),
        filled=Decimal(order.filled_quantity or "0"),
    )


def in_doubt(order: pb.Order) -> bool:
    """Whether something about the order is still to be found out."""
    unanswered = order.status == pb.ORDER_STATUS_PENDING_NEW
    return order.uncertain or unanswered or order.pending_cancel or order.pending_replace


def status_word(status: int) -> str:
    """`FILLED` for ORDER_STATUS_FILLED."""
    return pb.OrderStatus.Name(pb.OrderStatus.ValueType(status)).removeprefix("ORDER_STATUS_")


__all__ = ["in_doubt", "list_orders", "our_truth", "reading_bus", "status_word", "venue_truth"]
