"""Lists in pages: every row once, in order, and tokens that only continue their own list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.contract.client import CALL_S, Client
from tests.contract.refusals import refused
from venuemesh.v1 import account_service_pb2, instrument_service_pb2, order_service_pb2

Fetch = Callable[..., Any]


def _orders(client: Client, **page: Any) -> Any:
    request = order_service_pb2.ListOrdersRequest(account_id=client.account_id, venue=client.name, **page)
    return client.orders.ListOrders(request, timeout=CALL_S)


def _fills(client: Client, **page: Any) -> Any:
    request = account_service_pb2.ListFillsRequest(account_id=client.account_id, venue=client.name, **page)
    return client.accounts.ListFills(request, timeout=CALL_S)


def _ledger(client: Client, **page: Any) -> Any:
    request = account_service_pb2.ListLedgerEntriesRequest(account_id=client.account_id, venue=client.name, **page)
    return client.accounts.ListLedgerEntries(request, timeout=CALL_S)


def _instruments(client: Client, **page: Any) -> Any:
    request = instrument_service_pb2.ListInstrumentsRequest(venue=client.name, **page)
    return client.instruments.ListInstruments(request, timeout=CALL_S)


LISTS: dict[str, tuple[Fetch, str, str]] = {
    "orders": (_orders, "orders", "order_id"),
    "fills": (_fills, "fills", "execution_id"),
    "ledger": (_ledger, "ledger_entries", "ledger_entry_id"),
    "instruments": (_instruments, "instruments", "symbol"),
}
MOST_ROWS = 60


async def read_pages(client: Client, name: str, size: int) -> list[str]:
    """Names of the first rows of a list, read in pages of `size`."""
    fetch, field, key = LISTS[name]
    found: list[str] = []
    token = ""
    while len(found) < MOST_ROWS:
        answer = await fetch(client, page_size=size, page_token=token)
        rows = getattr(answer, field)
        assert len(rows) <= size
        found += [getattr(row, key) for row in rows]
        token = answer.next_page_token
        if not token:
            break
    return found[:MOST_ROWS]


@pytest.mark.parametrize("name", LISTS)
async def test_pages_join_to_the_whole_list(client: Client, name: str) -> None:
    """Whatever their size."""
    orders = [await client.take() for _ in range(3)]
    # Fills are listed once they are durable, in the order they came in: the last ones say that all are.
    await client.fills(orders[-1])
    whole = await read_pages(client, name, 1_000)
    assert len(set(whole)) == len(whole)
    if name in ("orders", "fills"):
        assert len(whole) >= len(orders)
    assert await read_pages(client, name, 2) == whole


@pytest.mark.parametrize("name", LISTS)
async def test_bad_page_is_refused_by_field(client: Client, name: str) -> None:
    """A size over the bound, and a token nobody made."""
    fetch, _, _ = LISTS[name]
    refusal = await refused(fetch(client, page_size=1_001))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_size"])
    refusal = await refused(fetch(client, page_token="invented"))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


async def test_token_of_another_list_or_filter_is_refused(client: Client) -> None:
    """It continues the list it was made for, and no other."""
    for _ in range(2):
        await client.take()
    token = (await _orders(client, page_size=1)).next_page_token
    assert token
    for call in (
        _orders(client, page_size=1, page_token=token, symbol=client.symbol),
        _fills(client, page_token=token),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])
    assert (await _orders(client, page_size=5, page_token=token)).orders


async def test_orders_are_filtered_by_status_and_time(client: Client) -> None:
    """Half-open: from is included, to is not."""
    order = await client.take()
    created = order.created_time
    rows = (await _orders(client, from_time=created, page_size=1_000)).orders
    assert order.order_id in {row.order_id for row in rows}
    rows = (await _orders(client, to_time=created, page_size=1_000)).orders
    assert order.order_id not in {row.order_id for row in rows}
    rows = (await _orders(client, statuses=[order.status], page_size=1_000)).orders
    assert {row.status for row in rows} == {order.status}
    refusal = await refused(_orders(client, from_time=created, to_time=created))
    assert (refusal.reason, refusal.fields) == ("CONTRADICTORY_FIELDS", ["to_time"])
