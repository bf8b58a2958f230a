"""A snapshot and the tail behind it give the fold that never stopped; what is no whole snapshot is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import snapshots
from aggregator.aggregate import Aggregate
from aggregator.messages import Record, replayed
from aggregator.snapshots import decode, encode
from tests.fakes import ManualClock
from tests.unit.aggregator.gateway_events import BTC, EPOCH, Gateway, stored
from tests.unit.aggregator.test_aggregate import Desk, Disorder
from venuemesh.snapshot_slots import BadSnapshot
from venuemesh.v1 import event_pb2, portfolio_state_pb2


def loaded(state: portfolio_state_pb2.PortfolioState) -> Aggregate:
    aggregate = Aggregate(ManualClock(), EPOCH)
    aggregate.load(decode(encode(state)))
    return aggregate


def fold_of(aggregate: Aggregate) -> bytes:
    """All of the fold but where the log may be read from, which depends on when it was loaded."""
    state = aggregate.save()
    del state.checkpoints[:]
    return state.SerializeToString(deterministic=True)


@given(seed=st.integers(0, 2**32), size=st.integers(0, 60), share=st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_snapshot_and_tail_equal_the_whole_log(seed: int, size: int, share: float) -> None:
    """Property 40: cut anywhere, repeats and reorders across the cut included, the same bytes in the end."""
    desk, disorder = Desk(), Disorder(random.Random(seed))
    disorder.store_some(desk, round(size * share))
    state = desk.aggregate.save()
    restarted = loaded(state)
    assert restarted.save() == state
    first = len(desk.log)
    disorder.store_some(desk, size - round(size * share))
    disorder.finish(desk)
    for message in desk.log[first:]:
        assert restarted.take(message) == []
    whole = desk.aggregate.portfolio.message().SerializeToString(deterministic=True)
    assert restarted.portfolio.message().SerializeToString(deterministic=True) == whole
    assert fold_of(restarted) == fold_of(desk.aggregate) == fold_of(desk.restarted())


def test_refusals_gaps_and_losses_survive() -> None:
    """What is known to be missing is not forgotten by a restart, and a contradiction is still seen as one."""
    desk, gateway = Desk(), Gateway()
    desk.store(gateway.balance(1))
    broken = gateway.balance(2)
    broken.balance.total = "much"
    desk.store(broken)
    gateway.event()
    desk.store(gateway.balance(4))
    restarted = loaded(desk.aggregate.save())
    parts = [(part.part, part.cause) for part in restarted.portfolio.stale_parts()]
    assert [part for part, _ in parts] == ["hyperliquid/main events", "hyperliquid/main lost events"]
    assert parts == [(part.part, part.cause) for part in desk.aggregate.portfolio.stale_parts()]
    again = Gateway().balance(9)
    again.event_id = "another"
    (refusal,) = restarted.take(stored(again, 4))
    assert "number 1 is already event" in refusal.error


def test_fields_of_a_newer_schema_survive() -> None:
    """A position told by a newer gateway keeps what this release does not know."""
    desk = Desk()
    event = event_pb2.Event.FromString(
        Gateway().position(BTC, 1, cost=5, mark=6).SerializeToString() + b"\xf2\x3f\x02AB"
    )
    desk.store(event)
    (kept,) = loaded(desk.aggregate.save()).portfolio.position_events()
    assert kept.SerializeToString(deterministic=True) == event.SerializeToString(deterministic=True)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_checkpoints_of_a_snapshot_read_the_log_again_in_order(seed: int) -> None:
    """Streams that resume from before a restart get the events in the order they were folded in, each once."""
    desk, disorder = Desk(), Disorder(random.Random(seed))
    folded: list[Record] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aggregator.aggregate.CHECKPOINT_EVERY", 5)
        patch.setattr("aggregator.aggregate.MAX_CHECKPOINTS", 4)
        for _ in range(30):
            disorder.store_some(desk, 1)
        disorder.finish(desk)
    folded = desk.aggregate._recent.after(0)
    restarted = loaded(desk.aggregate.save())
    for after in (0, 7, 20, len(desk.log)):
        found = restarted.checkpoint(after)
        assert found is not None
        position, sequencer = found
        again = [
            (message.sequence, [event.event_id for event in events])
            for message in desk.log[position:]
            if (events := replayed(sequencer, message)) and message.sequence > after
        ]
        wanted = [(r.sequence, [event.event_id for event in r.events]) for r in folded if r.sequence > after]
        assert again == wanted


def test_snapshot_is_cut_and_joined() -> None:
    """A state larger than one payload comes back whole; bytes that are none are refused."""
    desk = Desk()
    desk.store(Gateway().balance(1))
    state = desk.aggregate.save()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "PART_BYTES", 8)
        payloads = encode(state)
    assert len(payloads) > 2
    assert decode(payloads) == state
    with pytest.raises(BadSnapshot, match="cannot be read"):
        decode([*payloads, b"\xff"])
