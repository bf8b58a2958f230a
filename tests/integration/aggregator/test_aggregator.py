"""The aggregator over a real broker and real gRPC: reads, streams, resume, faults, drain."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.broker import Broker
from tests.integration.aggregator.world import (
    CALL_S,
    NOT_SERVING,
    PATIENCE_S,
    SERVING,
    Filter,
    Publisher,
    aggregating,
    at,
    is_a,
    read_until,
)
from tests.unit.aggregator.gateway_events import BTC, ETH, Gateway, PortfolioClient, comparable, subject_of
from venuemesh.errors import MeshError, Reason
from venuemesh.status import error_from_rpc
from venuemesh.subjects import DEAD_LETTER_STREAM, EVENT_STREAM
from venuemesh.v1 import event_pb2, operations_service_pb2, portfolio_service_pb2, stream_pb2


async def refused(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return error_from_rpc(failure.value, is_write=False)


def some_events(gateway: Gateway) -> list[event_pb2.Event]:
    return [
        gateway.balance("1000"),
        gateway.order(BTC, "a"),
        gateway.fill(BTC, "a", terminal=True),
        gateway.position(BTC, "1", cost="100", mark="110", fees="0.1"),
        gateway.position(ETH, "-3", cost="-30", mark="9"),
        gateway.summary(margin_used="10", margin_available="900"),
    ]


async def test_reading_shows_what_was_published_and_two_aggregators_agree(broker: Broker) -> None:
    """One folded live, one by replay: the same bytes at the same position."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher, aggregating(broker) as live:
        sequence = await publisher.publish(*some_events(gateway))
        call = live.stream()
        await read_until(call, at(sequence))
        call.cancel()
        async with aggregating(broker) as replayed:
            one, other = await live.read(), await replayed.read()
    assert (one.position.epoch, one.position.sequence) == (publisher.epoch, sequence)
    (totals,) = one.totals
    assert (totals.balance, totals.unrealized_pnl, totals.equity) == ("1000", "13", "1013")
    assert one.accounts[0].fill_count == 1
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


async def test_stream_agrees_with_the_reading_at_the_same_sequence(broker: Broker) -> None:
    """E4: snapshot, then deltas; the folded copy is what GetPortfolio says, filtered or not."""
    gateway = Gateway()
    wanted = Filter(symbols=[BTC])
    whole, part = PortfolioClient(), PortfolioClient()
    async with Publisher.connect(broker) as publisher, aggregating(broker) as world:
        first, *rest = some_events(gateway)
        await publisher.publish(first)
        calls = [world.stream(), world.stream(wanted=wanted)]
        for call, client in zip(calls, (whole, part), strict=True):
            await read_until(call, is_a("snapshot"), into=client)
        sequence = await publisher.publish(*rest)
        for call, client in zip(calls, (whole, part), strict=True):
            await read_until(call, at(sequence), into=client)
            call.cancel()
        assert whole.view() == comparable(await world.read())
        assert part.view() == comparable(await world.read(wanted))
    assert whole.events == [event.event_id for event in rest]
    assert part.events == [event.event_id for event in rest if event.symbol != ETH]


async def test_stream_resumes_over_a_restart_of_the_aggregator(broker: Broker) -> None:
    """The position of a former process is continued by the next: what came in between, once, then live."""
    gateway = Gateway()
    client = PortfolioClient()
    async with Publisher.connect(broker) as publisher:
        async with aggregating(broker) as world:
            sequence = await publisher.publish(gateway.balance(1), gateway.balance(2))
            call = world.stream()
            await read_until(call, at(sequence), into=client)
            call.cancel()
        missed = [gateway.balance(3), gateway.position(BTC, 2, cost=10, mark=6)]
        await publisher.publish(*missed)
        client.events.clear()
        async with aggregating(broker) as world:
            call = world.stream(client)
            (acknowledgement,) = await read_until(call, is_a("acknowledgement"), into=client)
            await read_until(call, is_a("heartbeat"), into=client)
            live = gateway.balance(5)
            await read_until(call, at(await publisher.publish(live)), into=client)
            call.cancel()
            assert client.view() == comparable(await world.read())
    assert acknowledgement.acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED
    assert client.events == [event.event_id for event in (*missed, live)]


async def test_position_that_cannot_be_resumed_gets_a_snapshot_and_the_reason(broker: Broker) -> None:
    """Another epoch, a number ahead, one too far back: SNAPSHOT_INSTEAD with a note."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher, aggregating(broker, FOLD__RESUME_WINDOW="2") as world:
        for amount in range(5):
            sequence = await publisher.publish(gateway.balance(amount))
        call = world.stream()
        await read_until(call, at(sequence))
        call.cancel()
        for epoch, number, word in (
            ("other", 3, "not in force"),
            (publisher.epoch, 99, "ahead"),
            (publisher.epoch, 1, "too far back"),
        ):
            call = world.stream(resume_after=stream_pb2.StreamPosition(epoch=epoch, sequence=number))
            acknowledgement, snapshot = await read_until(call, is_a("snapshot"))
            call.cancel()
            body = acknowledgement.acknowledgement
            assert body.resume_outcome == stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
            assert word in body.resume_note
            assert snapshot.header.sequence == sequence


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_broker_goes_away_and_comes_back_without_a_restart(broker: Broker, how: signal.Signals) -> None:
    """Health and the portfolio say so while it lasts; the same stream goes on with nothing lost."""
    gateway = Gateway()
    client = PortfolioClient()
    async with Publisher.connect(broker) as publisher, aggregating(broker) as world:
        call = world.stream()
        await read_until(call, at(await publisher.publish(gateway.balance(1))), into=client)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.becomes(SERVING, NOT_SERVING, SERVING), name="health")
            await broker.stop(how)
            await read_until(call, lambda message: bool(message.delta.stale_parts), into=client)
            assert [part.part for part in client.portfolio.stale_parts] == ["event log"]
            away = await world.read()
            assert [part.part for part in away.stale_parts] == ["event log"]
            assert away.totals[0].balance == "1"
            await broker.start()
        async with asyncio.timeout(PATIENCE_S):
            while not publisher.bus.connected:
                await asyncio.sleep(0.01)
        sequence = await publisher.publish(gateway.balance(2), gateway.balance(3))
        await read_until(call, lambda _: client.sequence >= sequence and not client.portfolio.stale_parts, into=client)
        call.cancel()
        assert client.view() == comparable(await world.read())
    assert client.events[-2:] == ["hyperliquid/main/2", "hyperliquid/main/3"]


async def test_log_made_anew_ends_streams_and_is_folded_from_its_beginning(broker: Broker) -> None:
    """A broker that lost its data: SOURCE_LOST, another epoch, and only what the new log says."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher, aggregating(broker) as world:
        call = world.stream()
        await read_until(call, at(await publisher.publish(*some_events(gateway))))
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(read_until(call, is_a("closing")), name="closing")
            await publisher.bus._js.delete_stream(EVENT_STREAM)
        async with Publisher.connect(broker) as anew:
            await anew.publish(Gateway("lighter", "desk").balance(7))
            async with asyncio.timeout(PATIENCE_S):
                while (portfolio := await world.read()).position.sequence != 1:
                    await asyncio.sleep(0.02)
    assert closing.result()[-1].closing.reason == stream_pb2.CLOSING_REASON_SOURCE_LOST
    assert portfolio.position.epoch == anew.epoch != publisher.epoch
    assert [account.venue for account in portfolio.accounts] == ["lighter"]


async def test_bad_messages_go_to_the_dead_letters_once_and_the_service_goes_on(broker: Broker) -> None:
    """Undecodable bytes and a contradictory event, over a restart: one letter each, with the reason."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher:
        bad = gateway.balance(1)
        bad.balance.total = "lots"
        await publisher.store("venuemesh.v1.fill.hyperliquid.main.-", b"\xff\xff")
        sequence = await publisher.publish(bad, gateway.balance(3))
        for _ in range(2):
            async with aggregating(broker) as world:
                portfolio = await world.read()
                async with asyncio.timeout(PATIENCE_S):
                    while await publisher.bus.last(DEAD_LETTER_STREAM, "venuemesh.v1.dead_letter.*.*.2.>") is None:
                        await asyncio.sleep(0.01)
        assert (portfolio.position.sequence, portfolio.totals[0].balance) == (sequence, "3")
        letters = [
            event_pb2.DeadLetter.FromString(message.payload)
            async for message in publisher.bus.replay(DEAD_LETTER_STREAM, ["venuemesh.v1.dead_letter.>"])
        ]
    assert [(letter.handler, letter.source_sequence) for letter in letters] == [("aggregator", 1), ("aggregator", 2)]
    assert letters[0].payload == b"\xff\xff"
    assert [letter.subject for letter in letters] == ["venuemesh.v1.fill.hyperliquid.main.-", subject_of(bad)]
    assert "balance.total" in letters[1].error
    assert event_pb2.Event.FromString(letters[1].payload).event_id == bad.event_id


async def test_aggregator_lists_its_dead_letters_and_what_is_put_back_changes_nothing(broker: Broker) -> None:
    """The copy of an event is known by its id: the portfolio stays, and the next position is one further."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher, aggregating(broker) as world:
        bad = gateway.balance(1)
        bad.balance.total = "lots"
        await publisher.publish(bad, gateway.balance(3))
        letters: list[event_pb2.DeadLetter] = []
        async with asyncio.timeout(PATIENCE_S):
            while not letters:
                answer = await world.operations.ListDeadLetters(
                    operations_service_pb2.ListDeadLettersRequest(), timeout=CALL_S
                )
                letters = list(answer.dead_letters)
        assert "balance.total" in letters[0].error
        number = letters[0].stream_sequence
        request = operations_service_pb2.RequeueDeadLetterRequest(stream_sequence=number, operator="ana")
        put_back = [await world.operations.RequeueDeadLetter(request, timeout=CALL_S) for _ in range(2)]
        assert [(answer.subject, answer.already_requeued) for answer in put_back] == [
            (subject_of(bad), False),
            (subject_of(bad), True),
        ]
        await publisher.publish(gateway.balance(4))
        async with asyncio.timeout(PATIENCE_S):
            while (portfolio := await world.read()).totals[0].balance != "4":
                await asyncio.sleep(0.01)
        assert portfolio.position.sequence == 4  # the bad one, a good one, the copy, another good one
        answer = await world.operations.ListDeadLetters(operations_service_pb2.ListDeadLettersRequest(), timeout=CALL_S)
        assert [letter.requeued_by for letter in answer.dead_letters] == ["ana"]


async def test_event_of_a_newer_schema_passes_through_unharmed(broker: Broker) -> None:
    """Unknown fields and enum numbers reach the client as they were published."""
    gateway = Gateway()
    event = gateway.order(BTC, "a", status=9_999)
    async with Publisher.connect(broker) as publisher, aggregating(broker) as world:
        event.epoch = publisher.epoch
        raw = event.SerializeToString() + b"\xfa\x3f\x05hello"
        call = world.stream()
        await read_until(call, is_a("snapshot"))
        await publisher.store(subject_of_order(), raw)
        messages = await read_until(call, is_a("delta"))
        call.cancel()
    assert messages[-1].delta.event.SerializeToString(deterministic=True).endswith(b"\xfa\x3f\x05hello")
    assert messages[-1].delta.accounts[0].orders[0].status == 9_999


def subject_of_order() -> str:
    return "venuemesh.v1.order.hyperliquid.main.BTC/USDC:USDC"


def executions(world: Any, **fields: Any) -> Any:
    request = portfolio_service_pb2.StreamExecutionsRequest(**fields)
    return world.portfolio.StreamExecutions(request, timeout=60.0)


@pytest.mark.parametrize("window", ["1", "20000"])
async def test_executions_resume_from_memory_and_from_the_log(broker: Broker, window: str) -> None:
    """Far behind or near: every fill behind the position once, repeats and reorder in the log included."""
    gateway = Gateway()
    fills = [gateway.fill(BTC, f"n{number}") for number in range(12)]
    order = [0, 1, 2, 4, 3, 3, 5, 6, 2, 8, 7, 9]
    async with Publisher.connect(broker) as publisher, aggregating(broker, FOLD__RESUME_WINDOW=window) as world:
        await publisher.publish(*(fills[index] for index in order))
        call = world.stream()
        await read_until(call, at(len(order)))
        call.cancel()
        position = stream_pb2.StreamPosition(epoch=publisher.epoch, sequence=2)
        call = executions(world, options=stream_pb2.StreamOptions(resume_after=position), fills_only=True)
        await read_until(call, at(len(order)))
        call.cancel()
        call = executions(world, options=stream_pb2.StreamOptions(resume_after=position), fills_only=True)
        messages = await read_until(call, at(len(order)))
        await publisher.publish(fills[10], gateway.balance(1))
        messages += await read_until(call, is_a("event"))
        call.cancel()
    assert messages[0].acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED
    got = [message.event.sequence for message in messages if message.WhichOneof("body") == "event"]
    assert got == list(range(3, 12))


async def test_executions_that_cannot_be_resumed_are_refused(broker: Broker) -> None:
    """There is no snapshot that could stand in for lost executions, so the caller is told."""
    async with Publisher.connect(broker) as publisher, aggregating(broker) as world:
        await publisher.publish(Gateway().fill(BTC, "a"))
        position = stream_pb2.StreamPosition(epoch="other", sequence=1)
        call = executions(world, options=stream_pb2.StreamOptions(resume_after=position))
        error = await refused(call.read())
    assert (error.reason, error.field) == (Reason.RESUME_POSITION_EXPIRED, "options.resume_after")


async def test_positions_stream_begins_with_all_of_them(broker: Broker) -> None:
    """Snapshot with an end marker, then changes; a filter applies to both."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher, aggregating(broker) as world:
        await publisher.publish(gateway.position(BTC, 1), gateway.position(ETH, 2), gateway.position(BTC, 3))
        request = portfolio_service_pb2.StreamPositionsRequest(filter=Filter(symbols=[BTC]))
        async with asyncio.timeout(PATIENCE_S):
            while (await world.read()).position.sequence != 3:
                await asyncio.sleep(0.01)
        call = world.portfolio.StreamPositions(request, timeout=60.0)
        messages = await read_until(call, is_a("snapshot_end"))
        await publisher.publish(gateway.position(ETH, 4), gateway.position(BTC, 5))
        messages += await read_until(call, is_a("event"))
        call.cancel()
    assert [message.WhichOneof("body") for message in messages] == [
        "acknowledgement",
        "snapshot",
        "snapshot_end",
        "event",
    ]
    assert (messages[1].snapshot.position.quantity, messages[1].header.sequence) == ("3", 0)
    assert (messages[2].snapshot_end.count, messages[2].header.sequence) == (1, 3)
    assert messages[3].event.position.quantity == "5"


async def test_exposures_are_listed_by_asset_and_venue(broker: Broker) -> None:
    """Largest first, with shares."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher:
        await publisher.publish(gateway.position(BTC, 1, mark=75), gateway.position(ETH, -5, mark=5))
        async with aggregating(broker) as world:
            request = portfolio_service_pb2.ListExposuresRequest()
            exposures = (await world.portfolio.ListExposures(request, timeout=CALL_S)).exposures
    assert [(row.key, row.gross, row.net, row.share_bps) for row in exposures] == [
        ("BTC", "75", "75", "7500"),
        ("ETH", "25", "-25", "2500"),
    ]


async def test_bad_wishes_are_refused_by_field(broker: Broker) -> None:
    """Conflation of fills and an interval out of bounds name their field."""
    async with aggregating(broker) as world:
        for options, field in (
            ({"slow_reader_policy": 2}, "options.slow_reader_policy"),
            ({"sample_interval_ms": 0}, "options.sample_interval_ms"),
            ({"heartbeat_interval_ms": 10}, "options.heartbeat_interval_ms"),
        ):
            request = portfolio_service_pb2.StreamPortfolioRequest(options=stream_pb2.StreamOptions(**options))  # type: ignore[arg-type]
            error = await refused(world.portfolio.StreamPortfolio(request, timeout=CALL_S).read())
            assert (error.reason, error.field) == (Reason.INVALID_ARGUMENT, field)
        many = Filter(symbols=[str(number) for number in range(1_001)])
        error = await refused(
            world.portfolio.GetPortfolio(portfolio_service_pb2.GetPortfolioRequest(filter=many), timeout=CALL_S)
        )
        assert error.field == "filter.symbols"


def time(seconds: int, nanos: int = 0) -> Timestamp:
    return Timestamp(seconds=seconds, nanos=nanos)


async def test_performance_of_a_period_and_bad_periods(broker: Broker) -> None:
    """GetPerformance: by asset, up to now without an end; what cannot be told is refused by field."""
    gateway, request = Gateway(), portfolio_service_pb2.GetPerformanceRequest
    events = [gateway.fill(BTC, "a"), gateway.position(BTC, 0, realized="7", fees="0.25")]
    for event in events:
        event.venue_time.seconds = 1_790_000_040
    async with Publisher.connect(broker) as publisher, aggregating(broker) as world:
        call = world.stream()
        await read_until(call, at(await publisher.publish(*events)))
        call.cancel()
        ask = world.portfolio.GetPerformance
        answer = await ask(request(from_time=time(1_790_000_040), to_time=time(1_790_000_100)), timeout=CALL_S)
        (period,) = answer.performances
        assert (period.asset, period.realized_pnl, period.fees_paid, period.fill_count) == ("USDC", "7", "0.25", 1)
        until_now = await ask(request(from_time=time(0)), timeout=CALL_S)
        assert [one.fill_count for one in until_now.performances] == [1]
        for bad, field in (
            (request(), "from_time"),
            (request(from_time=time(30)), "from_time"),
            (request(from_time=time(0, 5)), "from_time"),
            (request(from_time=time(60), to_time=time(60)), "to_time"),
            (request(from_time=time(60), to_time=time(61)), "to_time"),
        ):
            assert (await refused(ask(bad, timeout=CALL_S))).message.startswith(field)


UNSERVED: dict[str, set[str]] = {
    "PortfolioService": set(),
    "OperationsService": {
        "GetQuota",
        "ListCircuitBreakers",
        "SetCircuitBreaker",
        "DrainVenue",
        "StreamAlerts",
        "ListAuditEntries",
    },
}


async def test_methods_not_served_yet_say_so(broker: Broker) -> None:
    """UNIMPLEMENTED with reason NOT_IMPLEMENTED, and the list can only shrink."""
    found: dict[str, set[str]] = {name: set() for name in UNSERVED}
    async with aggregating(broker) as world:
        for module, stub in (
            (portfolio_service_pb2, world.portfolio),
            (operations_service_pb2, world.operations),
        ):
            for service in module.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    request = getattr(module, method.input_type.name)()
                    call = getattr(stub, method.name)(request, timeout=CALL_S)
                    try:
                        await (call.read() if method.server_streaming else call)
                    except grpc.aio.AioRpcError as failure:
                        if error_from_rpc(failure, is_write=False).reason is Reason.NOT_IMPLEMENTED:
                            assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
                            found[service.name].add(method.name)
                    call.cancel()
    assert found == UNSERVED


async def test_subscribers_are_listed_while_they_read(broker: Broker) -> None:
    """Who reads what; a reader that leaves is gone from the list and from the fold."""
    async with aggregating(broker) as world:
        call = world.stream()
        (acknowledgement,) = await read_until(call, is_a("acknowledgement"))
        request = operations_service_pb2.ListSubscribersRequest()
        (row,) = (await world.operations.ListSubscribers(request, timeout=CALL_S)).subscribers
        assert row.stream_id == acknowledgement.acknowledgement.stream_id
        assert row.method == "/venuemesh.v1.PortfolioService/StreamPortfolio"
        call.cancel()
        async with asyncio.timeout(PATIENCE_S):
            while (await world.operations.ListSubscribers(request, timeout=CALL_S)).subscribers:
                await asyncio.sleep(0.01)
        assert len(world.aggregator.hub) == 0


async def test_drain_says_goodbye_with_a_position_to_resume_after(broker: Broker) -> None:
    """Every stream ends with DRAINING and OK."""
    async with Publisher.connect(broker) as publisher, AsyncExitStack() as stack:
        world = await stack.enter_async_context(aggregating(broker))
        sequence = await publisher.publish(Gateway().balance(1))
        call = world.stream()
        await read_until(call, at(sequence))
        world.stopping.set()
        messages = await read_until(call, is_a("closing"))
        async with asyncio.timeout(PATIENCE_S):
            assert await call.code() is grpc.StatusCode.OK
    body = messages[-1].closing
    assert body.reason == stream_pb2.CLOSING_REASON_DRAINING
    assert (body.resume_after.epoch, body.resume_after.sequence) == (publisher.epoch, sequence)


async def test_many_events_at_the_start_are_folded_before_the_first_reading(broker: Broker) -> None:
    """Nobody sees a half-built portfolio: SERVING comes when the log has been read to its end."""
    gateway = Gateway()
    async with Publisher.connect(broker) as publisher:
        events = [gateway.fill(BTC, f"n{number}") for number in range(1_000)]
        for event in events:
            event.epoch = publisher.epoch
        acks = [
            await publisher.bus.publish_soon(
                "venuemesh.v1.fill.hyperliquid.main.BTC", event.SerializeToString(), message_id=event.event_id
            )
            for event in events
        ]
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*acks)
        async with aggregating(broker) as world:
            portfolio = await world.read()
    assert portfolio.accounts[0].fill_count == 1_000
    assert portfolio.position.sequence == 1_000
