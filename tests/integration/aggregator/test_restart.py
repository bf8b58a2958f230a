"""Restarts from a snapshot on a real broker: only the tail is folded, and what does not fit is not used."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import nats
import pytest

from aggregator.snapshots import FORM, FORMAT, encode
from tests.broker import Broker
from tests.integration.aggregator.world import PATIENCE_S, Publisher, World, aggregating, at, is_a, read_until
from tests.unit.aggregator.gateway_events import BTC, Gateway, PortfolioClient, comparable
from venuemesh.snapshot_slots import cut
from venuemesh.subjects import EVENT_STREAM, SNAPSHOT_STREAM, Kind, subject
from venuemesh.v1 import portfolio_service_pb2, portfolio_state_pb2, stream_pb2

SOON = {"FOLD__SNAPSHOT_EVERY_S": "0.01", "FOLD__SNAPSHOT_MIN_MESSAGES": "1"}
NONE = {"FOLD__SNAPSHOTS": "false"}


async def snapshot_at(publisher: Publisher, sequence: int) -> None:
    """Wait until a snapshot of this log sequence is stored."""
    async with (
        asyncio.timeout(PATIENCE_S),
        publisher.bus.follow(SNAPSHOT_STREAM, ["venuemesh.v1.snapshot.aggregator.>"]) as follower,
    ):
        async for message in follower:
            part = portfolio_state_pb2.SnapshotPart.FromString(message.payload)
            if part.index == 0 and part.sequence >= sequence:
                return


async def purge(broker: Broker, below: int) -> None:
    """Take messages out of the log, so that only a snapshot can know what they said."""
    client = await nats.connect(broker.url)
    await client.jetstream().purge_stream(EVENT_STREAM, seq=below)
    await client.close()


async def folded(world: World, sequence: int) -> bytes:
    call = world.stream()
    await read_until(call, at(sequence))
    call.cancel()
    return comparable(await world.read())


async def test_restart_folds_only_the_tail_and_agrees_with_one_that_never_stopped(broker: Broker) -> None:
    """The beginning of the log is gone; the balance it told is still known."""
    gateway, other = Gateway(), Gateway("lighter", "desk")
    async with Publisher.connect(broker) as publisher, aggregating(broker, **NONE) as steady:
        async with aggregating(broker, **SOON):
            kept = await publisher.publish(
                gateway.balance(100),
                gateway.position(BTC, 2, cost=20, mark=11),
                other.balance(5),
                gateway.fill(BTC, "a"),
            )
            await snapshot_at(publisher, kept)
        await purge(broker, kept)
        last = await publisher.publish(gateway.balance(101), other.position(BTC, -1, cost=-9, mark=10))
        async with aggregating(broker, **SOON) as restarted:
            assert await folded(restarted, last) == await folded(steady, last)
            balances = (await restarted.read()).accounts[0].balances
    assert [balance.total for balance in balances] == ["101"]


async def test_streams_resume_over_a_restart_from_a_snapshot(broker: Broker) -> None:
    """Property 41: a portfolio and executions from before the snapshot go on without loss or repeat."""
    gateway, client = Gateway(), PortfolioClient()
    async with Publisher.connect(broker) as publisher:
        async with aggregating(broker, **SOON) as world:
            call = world.stream()
            first = await publisher.publish(gateway.fill(BTC, "a"))
            await read_until(call, at(first), into=client)
            call.cancel()
            await snapshot_at(publisher, await publisher.publish(gateway.fill(BTC, "b"), gateway.balance(3)))
        client.events.clear()
        last = await publisher.publish(gateway.fill(BTC, "c"))
        async with aggregating(broker, **SOON) as world:
            call = world.stream(client)
            (acknowledgement,) = await read_until(call, is_a("acknowledgement"), into=client)
            await read_until(call, lambda _: client.sequence >= last and client.kinds[-1] == "heartbeat", into=client)
            call.cancel()
            assert client.view() == comparable(await world.read())
            fills = await executions(world, publisher.epoch, first, last)
    assert acknowledgement.acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED
    assert client.events == ["hyperliquid/main/2", "hyperliquid/main/3", "hyperliquid/main/4"]
    assert fills == ["o-b", "o-c"]


async def executions(world: World, epoch: str, after: int, up_to: int) -> list[str]:
    position = stream_pb2.StreamPosition(epoch=epoch, sequence=after)
    request = portfolio_service_pb2.StreamExecutionsRequest(options=stream_pb2.StreamOptions(resume_after=position))
    call = world.portfolio.StreamExecutions(request, timeout=60.0)
    messages: list[Any] = await read_until(call, at(up_to))
    call.cancel()
    return [m.event.execution_report.fill.order_id for m in messages if m.WhichOneof("body") == "event"]


def of_another_format(part: portfolio_state_pb2.SnapshotPart) -> None:
    part.format = FORMAT + 1


def damaged(part: portfolio_state_pb2.SnapshotPart) -> None:
    part.payload = part.payload[:-1] + b"!"


def of_another_log(part: portfolio_state_pb2.SnapshotPart) -> None:
    state = portfolio_state_pb2.PortfolioState.FromString(part.payload)
    state.epoch = "20200101T000000.000000Z"
    _rewrite(part, state)


def of_another_message(part: portfolio_state_pb2.SnapshotPart) -> None:
    state = portfolio_state_pb2.PortfolioState.FromString(part.payload)
    state.last_payload_sha256 = bytes(32)
    _rewrite(part, state)


def ahead_of_the_log(part: portfolio_state_pb2.SnapshotPart) -> None:
    state = portfolio_state_pb2.PortfolioState.FromString(part.payload)
    state.sequence += 100
    _rewrite(part, state)


def _rewrite(part: portfolio_state_pb2.SnapshotPart, state: portfolio_state_pb2.PortfolioState) -> None:
    (again,) = cut(FORM, state.epoch, state.sequence, encode(state))
    part.CopyFrom(again)


@pytest.mark.parametrize("spoil", [of_another_format, damaged, of_another_log, of_another_message, ahead_of_the_log])
async def test_snapshot_that_does_not_fit_is_not_used(broker: Broker, spoil: Any) -> None:
    """The log is folded from its beginning instead, to the truth."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher:
        async with aggregating(broker, **SOON) as world:
            last = await publisher.publish(gateway.balance(100), gateway.fill(BTC, "a"))
            await snapshot_at(publisher, last)
            wanted = await folded(world, last)
        for slot in ("0", "1"):
            name = subject(Kind.SNAPSHOT, "aggregator", slot, "0")
            stored = await publisher.bus.last(SNAPSHOT_STREAM, name)
            if stored is not None:
                part = portfolio_state_pb2.SnapshotPart.FromString(stored.payload)
                spoil(part)
                await publisher.store(name, part.SerializeToString())
        async with aggregating(broker, **NONE) as plain, aggregating(broker, FOLD__SNAPSHOT_EVERY_S="60") as world:
            assert await folded(world, last) == await folded(plain, last) == wanted


async def readable(world: World) -> None:
    """Wait until the portfolio can be read again; in between calls answer UNAVAILABLE."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await world.read()
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
            else:
                return


async def test_log_that_lost_its_end_is_folded_again(tmp_path: Path) -> None:
    """A number given to another message is not taken for the one that was folded; readers begin anew."""
    data, earlier = tmp_path / "data", tmp_path / "earlier"
    broker, gateway, client = Broker(tmp_path), Gateway(), PortfolioClient()
    await broker.start()
    try:
        async with Publisher.connect(broker) as publisher:
            await publisher.publish(gateway.balance(1))
        await broker.stop()
        shutil.copytree(data, earlier)
        await broker.start()
        async with Publisher.connect(broker) as publisher, aggregating(broker, **SOON) as world:
            call = world.stream()
            await read_until(call, at(await publisher.publish(gateway.balance(2), gateway.balance(3))), into=client)
            await broker.stop()
            shutil.rmtree(data)
            earlier.rename(data)
            await broker.start()
            messages = await read_until(call, is_a("closing"), into=client)
            assert messages[-1].closing.reason == stream_pb2.CLOSING_REASON_SOURCE_LOST
            await readable(world)
            call = world.stream(client)
            acknowledgement, begun = await read_until(call, is_a("snapshot"))
            call.cancel()
        assert "ahead" in acknowledgement.acknowledgement.resume_note
        assert [balance.total for balance in begun.snapshot.accounts[0].balances] == ["1"]
    finally:
        await broker.stop()
