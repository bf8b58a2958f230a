"""SIGTERM under load: gateways refuse new orders, finish what is in flight, say goodbye to streams and exit 0."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.soak.follower import ACCOUNT_EVENTS, REPORTS, Follower
from tests.soak.ledger import Claim, differences
from tests.soak.load import Book, Client
from tests.soak.mesh import GATEWAYS, SoakAccount, SoakMesh, soak_mesh
from tests.soak.truth import our_truth, reading_bus, status_word, venue_truth
from venuemesh.bus import Bus
from venuemesh.errors import MeshError, Reason, Sent
from venuemesh.journal import AccountHistory
from venuemesh.status import error_from_rpc
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import order_service_pb2_grpc as stubs

pytestmark = pytest.mark.xdist_group("e2e")

LIMIT_S = 60.0
PAUSE_S = 1.0
GRACE_S = 5.0
# Room for the pause, both graces, the last answers and a slow machine; an end without the drain would be at once.
ENDS_WITHIN_S = PAUSE_S + 2 * GRACE_S + 10.0
MANY = 60
DOUBTFUL = ("PENDING_NEW", "UNCERTAIN")


async def until(condition: Any) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def load(mesh: SoakMesh, book: Book) -> AsyncIterator[None]:
    """Clients at work while the block runs; what they have begun is finished."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number, account in enumerate(mesh.accounts):
            client = Client(mesh, account, book, name=f"c{number}", seed=f"drain/{number}")
            tasks.create_task(client.run(stop), name="client")
        try:
            yield
        finally:
            stop.set()


@asynccontextmanager
async def following(mesh: SoakMesh) -> AsyncIterator[list[Follower]]:
    """Streams of every account, read until the block ends."""
    readers = [
        Follower(mesh, account, f"gateway_{account.venue}", kind, Random(kind))
        for account in mesh.accounts
        for kind in (REPORTS, ACCOUNT_EVENTS)
    ]
    tasks = [asyncio.create_task(reader.run(), name=reader.name) for reader in readers]
    try:
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def refused_order(mesh: SoakMesh, gateway: str) -> MeshError:
    """The first refusal of a new order with GATEWAY_DRAINING that a client who keeps trying gets."""
    stub: Any = stubs.OrderServiceStub(mesh.channel(gateway))
    async with asyncio.timeout(LIMIT_S):
        number = 0
        while True:
            number += 1
            order = pb.NewOrder(
                account_id=mesh.accounts[0].account_id,
                client_order_id=f"probe-{number}",
                symbol="BTC/USDC:USDC",
                side=pb.SIDE_BUY,
                order_type=pb.ORDER_TYPE_LIMIT,
                time_in_force=pb.TIME_IN_FORCE_GTC,
                # Too small for any venue: while orders are taken it is refused for that, and never sent.
                quantity="0.00001",
                price="90000",
            )
            try:
                await stub.SubmitOrder(wire.SubmitOrderRequest(order=order), timeout=5)
            except grpc.aio.AioRpcError as failure:
                error = error_from_rpc(failure, is_write=True)
                if error.reason is Reason.GATEWAY_DRAINING:
                    return error
            await asyncio.sleep(0.01)


async def last_words(bus: Bus, account: SoakAccount, writer: str) -> dict[str, str]:
    """Status word of each order in the last event that one process wrote of it."""
    found: dict[str, str] = {}
    async for event in AccountHistory(bus, account.venue, account.account_id).replay():
        if _writer(event) == writer and event.execution_report.HasField("order"):
            order = event.execution_report.order
            found[order.terms.client_order_id] = status_word(order.status)
    return found


def _writer(event: event_pb2.Event) -> str:
    return event.event_id.split("/")[2]


async def first_writer(bus: Bus, account: SoakAccount) -> str:
    """The process that wrote the account's first event."""
    async for event in AccountHistory(bus, account.venue, account.account_id).replay():
        return _writer(event)
    raise AssertionError("the account has no events")


async def test_gateways_told_to_stop_under_load_drain_and_leave_nothing_in_doubt(tmp_path: Path) -> None:
    """Property 32, with real processes: every answer that was given is in the journal that the process left."""
    times = {"GRPC__DRAIN_PAUSE_S": str(PAUSE_S), "GRPC__DRAIN_GRACE_S": str(GRACE_S)}
    async with soak_mesh(tmp_path, gateways=times) as mesh, following(mesh) as readers:
        book = Book()
        async with load(mesh, book):
            await until(lambda: len(book.all()) >= MANY)
            # Answers that are late, so that some are surely in flight.
            for venue, match in (("hyperliquid", "order"), ("lighter", "create_order")):
                late = {"kind": "delay_reply", "match": match, "delay_s": 0.6, "count": 0}
                await mesh.venue("POST", "/sim/faults", late, venue=venue)
            sent_before = len(book.all())
            await until(lambda: len(book.all()) > sent_before)
            for gateway in GATEWAYS:
                assert mesh.signal(gateway, signal.SIGTERM)
            refusals = await asyncio.gather(*(refused_order(mesh, gateway) for gateway in GATEWAYS))
            for error in refusals:
                assert error.sent is Sent.NO
                assert error.retry_after_s
            ended = await asyncio.gather(*(answered_until_it_ended(mesh, book, gateway) for gateway in GATEWAYS))
            answered = dict(zip(GATEWAYS, ended, strict=True))
        for venue in ("hyperliquid", "lighter"):
            await mesh.venue("DELETE", "/sim/faults", venue=venue)
        await mesh.wait_up()
        assert mesh.watch.unasked == []
        async with reading_bus(mesh) as bus:
            for account in mesh.accounts:
                words = await last_words(bus, account, await first_writer(bus, account))
                assert words
                doubtful = {key for key, word in words.items() if word in DOUBTFUL}
                told = answered[f"gateway_{account.venue}"]
                assert told
                assert not doubtful & told
            await equal(mesh, bus, book, readers)
        for reader in readers:
            assert reader.closings >= 1, f"{reader.name} got no notice"


async def answered_until_it_ended(mesh: SoakMesh, book: Book, gateway: str) -> set[str]:
    """Keys that clients were told something certain of before the gateway exited with 0."""
    async with asyncio.timeout(ENDS_WITHIN_S):
        while gateway not in mesh.watch.drained:
            assert mesh.watch.unasked == []
            await asyncio.sleep(0.02)
    return {
        one.key
        for one in book.all()
        if one.venue == gateway.removeprefix("gateway_") and {Claim.LIVE, Claim.DEAD} & set(one.claims)
    }


async def equal(mesh: SoakMesh, bus: Bus, book: Book, readers: list[Follower]) -> None:
    """Venue, gateway, journal, answers and streams agree in the end."""
    found = ["never compared"]
    try:
        async with asyncio.timeout(LIMIT_S):
            while found:
                found = []
                for account in mesh.accounts:
                    ours, events = await our_truth(mesh, bus, account)
                    found += differences(book.of(account), await venue_truth(mesh, account), ours)
                    for reader in readers:
                        if reader.account is account:
                            found += reader.differences(events)
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail("\n".join(found))
