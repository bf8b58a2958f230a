"""Order of an account's events from a log that repeats, reorders and loses."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.sequencing import Sequencer
from venuemesh.v1 import event_pb2

S = 1_000_000_000


def event(number: int, *, account: str = "main", epoch: str = "e1", name: str = "") -> event_pb2.Event:
    return event_pb2.Event(
        event_id=name or f"{account}/{epoch}/{number}",
        epoch=epoch,
        sequence=number,
        venue="v",
        account_id=account,
    )


class Log:
    def __init__(self, sequencer: Sequencer) -> None:
        self.sequencer = sequencer
        self.position = 0
        self.refused: list[str] = []

    def offer(self, item: event_pb2.Event, seconds: float = 0.0) -> list[int]:
        self.position += 1
        outcome = self.sequencer.offer(item, log_sequence=self.position, time_ns=round(seconds * S))
        if outcome.refused:
            self.refused.append(outcome.refused)
        return [ready.sequence for ready in outcome.ready]

    def give_up(self, seconds: float) -> list[int]:
        ready = []
        for gap in self.sequencer.overdue(round(seconds * S)):
            outcome = self.sequencer.give_up(gap, log_sequence=self.position, time_ns=round(seconds * S))
            ready += [item.sequence for item in outcome.ready]
        return ready


KEY = ("v", "main")


def test_repeats_are_dropped_and_early_events_wait() -> None:
    """A resend neither doubles nor reorders."""
    log = Log(Sequencer())
    assert [log.offer(event(number)) for number in (1, 1, 3, 2, 3, 2, 4)] == [[1], [], [], [2, 3], [], [], [4]]
    assert log.refused == []


def test_accounts_are_numbered_apart() -> None:
    """The same number of another account is another event."""
    log = Log(Sequencer())
    assert log.offer(event(1)) == [1]
    assert log.offer(event(1, account="other")) == [1]


def test_two_events_with_one_number_contradict_each_other() -> None:
    """A second event under a number already used is refused by name, held back or released."""
    log = Log(Sequencer())
    log.offer(event(1))
    log.offer(event(3))
    assert log.offer(event(1, name="impostor")) == []
    assert log.offer(event(3, name="impostor")) == []
    assert log.refused == ["number 1 is already event 'main/e1/1'", "number 3 is already event 'main/e1/3'"]


def test_open_gap_is_named_with_its_begin() -> None:
    """An account that waits says for what and since when."""
    log = Log(Sequencer())
    log.offer(event(1), 1)
    log.offer(event(5), 2)
    log.offer(event(4), 3)
    gap = log.sequencer.gap(KEY)
    assert gap is not None
    assert (gap.first, gap.last, gap.since_ns, gap.behind, str(gap)) == (2, 3, 2 * S, 1, "events 2 to 3")
    log.offer(event(2), 4)
    gap = log.sequencer.gap(KEY)
    assert gap is not None
    assert (str(gap), gap.since_ns) == ("event 3", 4 * S)
    assert log.offer(event(3), 5) == [3, 4, 5]
    assert log.sequencer.gap(KEY) is None


def test_gap_is_overdue_by_the_logs_own_time() -> None:
    """Patience is counted in broker time, so that a replay decides as the first reading did."""
    log = Log(Sequencer(patience_s=30))
    log.offer(event(2), 100)
    assert log.give_up(130) == []
    assert log.give_up(130.1) == [2]
    assert log.offer(event(1), 131) == []
    assert log.refused == ["number 1 came after its gap had been given up"]


def test_gap_is_overdue_when_too_many_wait_behind_it() -> None:
    """The hold-back is bounded."""
    log = Log(Sequencer(hold_limit=3))
    for number in (2, 3, 4):
        log.offer(event(number))
    assert log.give_up(0) == []
    log.offer(event(5))
    assert log.give_up(0) == [2, 3, 4, 5]


def test_log_without_its_beginning_lets_accounts_begin_anywhere() -> None:
    """What was deleted for age is not a gap."""
    log = Log(Sequencer(begin_anywhere=True))
    assert log.offer(event(500)) == [500]
    assert log.offer(event(501)) == [501]


def test_new_epoch_starts_from_one_and_the_former_is_over() -> None:
    """Numbers restart with a new epoch; a late message of the old one is refused."""
    log = Log(Sequencer())
    log.offer(event(1))
    assert log.offer(event(1, epoch="e2")) == [1]
    assert log.offer(event(2, epoch="e1")) == []
    assert log.refused == ["epoch e1 ended before, e2 is in force"]


def test_copy_is_independent() -> None:
    """A checkpoint does not move with the original."""
    log = Log(Sequencer())
    log.offer(event(1))
    log.offer(event(3))
    twin = Log(log.sequencer.copy())
    assert log.offer(event(2)) == [2, 3]
    assert twin.offer(event(2)) == [2, 3]


@given(seed=st.integers(0, 2**32), count=st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_any_small_reorder_with_repeats_gives_the_original_order(seed: int, count: int) -> None:
    """Law: what was numbered comes out once, in order, whatever the resends did."""
    chance = random.Random(seed)
    sent = [event(number) for number in range(1, count + 1)]
    arrivals = sorted(range(count), key=lambda index: index + chance.uniform(0, 8))
    for index in chance.choices(range(count), k=count // 3):
        arrivals.insert(chance.randrange(len(arrivals) + 1), index)
    log = Log(Sequencer())
    got = [number for index in arrivals for number in log.offer(sent[index])]
    assert got == list(range(1, count + 1))
    assert log.refused == []
