"""A gateway starts from a snapshot on a real broker: only the tail is folded, and what does not fit is not used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats
import pytest

from tests.broker import Broker
from tests.fakes_venue import MAIN, VENUE, FakeVenue
from tests.integration.gateway.served_gateway import LIMIT_S, Gateway, serving_gateway
from venuemesh.bus import Bus, BusOptions
from venuemesh.clock import SystemClock
from venuemesh.errors import JournalUnavailable
from venuemesh.gateway.account_fold import AccountFold
from venuemesh.gateway.account_snapshots import FORM, AccountSnapshots, SnapshotSettings
from venuemesh.gateway.core import CoreSettings
from venuemesh.journal import AccountHistory, decode_event
from venuemesh.snapshot_slots import cut
from venuemesh.subjects import EVENT_STREAM, SNAPSHOT_STREAM, Kind, account_filter, stream_specs, subject
from venuemesh.v1.gateway_state_pb2 import GatewayAccountState
from venuemesh.v1.portfolio_state_pb2 import SnapshotPart

OFTEN = CoreSettings(snapshots=SnapshotSettings(every_events=1, look_every_s=0.01, rest_s=0.0))
READ_ONLY = CoreSettings(snapshots=SnapshotSettings(every_events=1_000_000))


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with Bus.connect(BusOptions(servers=[broker.url], name="test")) as connected:
        await connected.ensure_streams(stream_specs(event_max_age_s=0))
        yield connected


def state_of(fold: AccountFold) -> list[bytes]:
    return [piece.SerializeToString(deterministic=True) for piece in fold.pieces()]


def snapshots_of(gateway: Gateway, bus: Bus, settings: SnapshotSettings) -> AccountSnapshots:
    log = gateway.core.log
    return AccountSnapshots(
        bus,
        VENUE,
        [MAIN],
        history=lambda account_id: AccountHistory(bus, VENUE, account_id),
        sequence=log.sequence,
        epoch=lambda: log.epoch,
        settings=settings,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def trade(broker: Broker) -> FakeVenue:
    """A gateway lives, trades, leaves snapshots up to its last event and is gone; the venue stays."""
    venue = FakeVenue(SystemClock())
    async with serving_gateway(broker, venue=venue, core_settings=OFTEN) as gateway:
        await gateway.trade("a")
        await gateway.trade("b", quantity="2")
        await gateway.submit("c")
        await gateway.core.log.flush()
        last = gateway.core.log.sequence(MAIN)
        await until(lambda: gateway.core.snapshots.saved[MAIN] >= last)
    return venue


async def first_parts(bus: Bus) -> dict[str, SnapshotPart]:
    """The first part in each slot, by its subject."""
    found = {}
    for slot in ("0", "1"):
        name = subject(Kind.SNAPSHOT, "gateway", VENUE, MAIN, slot, "0")
        stored = await bus.last(SNAPSHOT_STREAM, name)
        if stored is not None:
            found[name] = SnapshotPart.FromString(stored.payload)
    return found


async def test_start_from_a_snapshot_knows_what_the_whole_log_says(broker: Broker, bus: Bus) -> None:
    """Property 40: the snapshot and what came behind it are the log."""
    venue = await trade(broker)
    async with serving_gateway(broker, venue=venue, core_settings=READ_ONLY) as gateway:
        assert gateway.core.snapshots.saved[MAIN] > 0
        await gateway.trade("d")
        await gateway.core.log.flush()
        begun = snapshots_of(gateway, bus, READ_ONLY.snapshots)
        fold = await begun.fold(MAIN, gently=True)
        whole = await snapshots_of(gateway, bus, SnapshotSettings(every_events=0)).fold(MAIN)
        assert 0 < begun.saved[MAIN] < fold.sequence
        assert state_of(fold) == state_of(whole)
        assert (begun.unusable, gateway.core.snapshots.unusable) == (0, 0)


async def test_log_before_the_snapshot_is_not_needed(broker: Broker, bus: Bus) -> None:
    """It is gone; orders, their keys, fills and positions are known, and the numbering goes on."""
    venue = await trade(broker)
    newest = max(part.sequence for part in (await first_parts(bus)).values())
    stored = [message async for message in bus.replay(EVENT_STREAM, [account_filter(VENUE, MAIN)])]
    (place,) = [message.sequence for message in stored if decode_event(message).sequence == newest]
    client = await nats.connect(broker.url)
    await client.jetstream().purge_stream(EVENT_STREAM, seq=place)
    await client.close()
    async with serving_gateway(broker, venue=venue, core_settings=READ_ONLY) as gateway:
        account = gateway.core.accounts[MAIN]
        assert [order.terms.client_order_id for order in account.all_orders()] == ["a", "b", "c"]
        assert [str(order.filled) for order in account.all_orders()] == ["0.25", "0.25", "0"]
        assert [str(position.quantity) for position in account.positions.values()] == ["0.5"]
        assert (await gateway.submit("a")).replayed
        await gateway.trade("d")
        assert (await gateway.journal())[-1].sequence > newest


def of_another_format(part: SnapshotPart) -> None:
    part.format += 1


def damaged(part: SnapshotPart) -> None:
    part.payload = part.payload[:-1] + b"!"


def no_state(part: SnapshotPart) -> None:
    _rewrite(part, [b"\xff"])


def of_another_log(part: SnapshotPart) -> None:
    part.epoch = "20200101T000000.000000Z"
    _rewrite(part, [part.payload])


def of_another_event(part: SnapshotPart) -> None:
    state = GatewayAccountState.FromString(part.payload)
    state.last_event_id = "another"
    _rewrite(part, [state.SerializeToString()])


def ahead_of_the_log(part: SnapshotPart) -> None:
    state = GatewayAccountState.FromString(part.payload)
    state.sequence += 1_000
    part.sequence = state.sequence
    _rewrite(part, [state.SerializeToString()])


def without_its_begin(part: SnapshotPart) -> None:
    state = GatewayAccountState.FromString(part.payload)
    state.ClearField("sequence")
    _rewrite(part, [state.SerializeToString()])


def _rewrite(part: SnapshotPart, payloads: list[bytes]) -> None:
    (again,) = cut(FORM, part.epoch, part.sequence, payloads)
    part.CopyFrom(again)


@pytest.mark.parametrize(
    "spoil",
    [of_another_format, damaged, no_state, of_another_log, of_another_event, ahead_of_the_log, without_its_begin],
)
async def test_snapshot_that_does_not_fit_is_not_used(broker: Broker, bus: Bus, spoil: Any) -> None:
    """The log is folded from its beginning instead, to the truth."""
    venue = await trade(broker)
    parts = await first_parts(bus)
    assert parts
    for name, part in parts.items():
        spoil(part)
        await bus.publish(name, part.SerializeToString())
    async with serving_gateway(broker, venue=venue, core_settings=READ_ONLY) as gateway:
        account = gateway.core.accounts[MAIN]
        assert (gateway.core.snapshots.saved[MAIN], gateway.core.snapshots.unusable) == (0, len(parts))
        assert [order.terms.client_order_id for order in account.all_orders()] == ["a", "b", "c"]
        assert [str(position.quantity) for position in account.positions.values()] == ["0.5"]


async def test_broker_that_goes_away_only_delays_a_snapshot(broker: Broker) -> None:
    """The gateway lives on, and writes it when the broker is back."""
    async with serving_gateway(broker, core_settings=OFTEN) as gateway:
        await gateway.trade("a")
        await gateway.core.log.flush()
        await broker.stop()
        with pytest.raises(JournalUnavailable):
            await gateway.core.snapshots.save(MAIN)
        gateway.venue.fill(gateway.venue.order_of(gateway.venue.placed[-1]), "0.25", "100")
        await until(lambda: gateway.core.log.backlog > 0)
        await broker.start()
        await gateway.core.log.flush()
        last = gateway.core.log.sequence(MAIN)
        await until(lambda: gateway.core.snapshots.saved[MAIN] >= last)
