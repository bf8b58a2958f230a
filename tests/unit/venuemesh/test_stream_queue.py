"""The queue of one reader: order, bounds, conflation, sampling."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.stream_queue import Entry, StreamQueue


def drain(queue: StreamQueue[int], now_s: float) -> list[int]:
    taken = []
    while (entry := queue.pop(now_s)) is not None:
        taken.append(entry.value)
    return taken


def test_every_event_keeps_all_in_order_whatever_the_slots() -> None:
    """Without an interval nothing is replaced."""
    queue = StreamQueue[int]()
    for number in range(5):
        queue.put(Entry(number, slot="BTC"), 0.0)
    assert drain(queue, 0.0) == [0, 1, 2, 3, 4]
    assert queue.conflated == 0


def test_overflow_empties_the_queue_and_says_so() -> None:
    """One more than fits is no silent drop: the queue declares itself broken and frees what it held."""
    queue = StreamQueue[int](capacity=3)
    for number in range(4):
        queue.put(Entry(number), 0.0)
    assert queue.overflowed
    assert (len(queue), queue.pop(0.0), queue.due_in(0.0)) == (0, None, None)
    queue.put(Entry(9), 0.0)
    assert len(queue) == 0
    queue.restart()
    queue.put(Entry(10), 0.0)
    assert drain(queue, 0.0) == [10]


def test_overflow_counts_distinct_slots_too() -> None:
    """A conflating reader is bounded by its slots, and too many of them overflow as well."""
    queue = StreamQueue[int](capacity=2, interval_s=0.0)
    for number in range(3):
        queue.put(Entry(number, slot=number), 0.0)
    assert queue.overflowed


def test_conflate_keeps_the_latest_of_each_slot_in_order_of_first_change() -> None:
    """Latest state per symbol, and the count of what it replaced."""
    queue = StreamQueue[int](interval_s=0.0)
    for value, slot in ((1, "a"), (2, "b"), (3, "a"), (4, "a")):
        queue.put(Entry(value, slot=slot), 0.0)
    assert len(queue) == 2
    assert queue.conflated == 2
    assert drain(queue, 0.0) == [4, 2]


def test_merge_combines_pending_states() -> None:
    """A merging queue loses no part of the states it joins."""
    queue = StreamQueue[frozenset[str]](interval_s=0.0, merge=lambda old, new: old | new)
    queue.put(Entry(frozenset("a"), 1, slot="marks"), 0.0)
    queue.put(Entry(frozenset("b"), 2, slot="marks"), 0.0)
    entry = queue.pop(0.0)
    assert entry is not None
    assert (entry.value, entry.sequence) == (frozenset("ab"), 2)


def test_sample_gives_each_slot_at_most_once_per_interval() -> None:
    """The first state goes out at once, the next when the interval is over, with the latest value then."""
    queue = StreamQueue[int](interval_s=1.0)
    queue.put(Entry(1, slot="a"), 10.0)
    assert drain(queue, 10.0) == [1]
    queue.put(Entry(2, slot="a"), 10.2)
    queue.put(Entry(3, slot="a"), 10.4)
    queue.put(Entry(7, slot="b"), 10.4)
    assert drain(queue, 10.5) == [7]
    assert queue.due_in(10.5) == 0.5
    assert drain(queue, 11.0) == [3]
    assert queue.due_in(11.0) is None


def test_event_beside_sampled_states_sends_them_ahead_of_itself() -> None:
    """A status or fill neither waits for a sample nor overtakes an older state."""
    queue = StreamQueue[int](interval_s=5.0)
    queue.put(Entry(1, slot="a"), 0.0)
    assert drain(queue, 0.0) == [1]
    queue.put(Entry(2, slot="a"), 0.1)
    queue.put(Entry(100), 0.2)
    queue.put(Entry(3, slot="a"), 0.3)
    assert drain(queue, 0.3) == [2, 100]
    assert drain(queue, 5.0) == [3]


def test_forgets_when_slots_were_sent_once_the_interval_is_over() -> None:
    """The table of sampling times stays within the capacity."""
    queue = StreamQueue[int](capacity=4, interval_s=1.0)
    for number in range(50):
        queue.put(Entry(number, slot=number), float(number * 2))
        assert drain(queue, float(number * 2)) == [number]
    assert len(queue._last) <= 5


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["state a", "state b", "event", "read"]), st.floats(0, 2, allow_nan=False)),
        max_size=60,
    ),
    interval_s=st.sampled_from([0.0, 0.5, 3.0]),
)
@settings(max_examples=150, deadline=None)
def test_reader_sees_all_events_in_order_and_ends_with_the_latest_states(
    steps: list[tuple[str, float]], interval_s: float
) -> None:
    """Law: events are never lost or reordered, per slot values only rise, and the last one always arrives."""
    queue = StreamQueue[tuple[str, int]](interval_s=interval_s)
    now_s, offered, got = 0.0, [], []
    for number, (what, wait_s) in enumerate(steps):
        now_s += wait_s
        if what == "read":
            while (entry := queue.pop(now_s)) is not None:
                got.append(entry.value)
        else:
            offered.append((what, number))
            queue.put(Entry((what, number), slot=None if what == "event" else what), now_s)
    while (due_s := queue.due_in(now_s)) is not None:
        now_s += due_s + 1e-9
        entry = queue.pop(now_s)
        assert entry is not None
        got.append(entry.value)
    assert [item for item in got if item[0] == "event"] == [item for item in offered if item[0] == "event"]
    for slot in ("state a", "state b"):
        numbers = [number for name, number in got if name == slot]
        assert numbers == sorted(set(numbers))
        assert numbers[-1:] == [number for name, number in offered if name == slot][-1:]
    assert len(got) + queue.conflated == len(offered)
    # Across slots too: nothing older than an event comes after it.
    for index, (name, number) in enumerate(got):
        if name == "event":
            assert all(later > number for _, later in got[index + 1 :])


def test_put_says_whether_a_waiting_reader_must_look() -> None:
    """A state that takes the place of a pending one is due when that was; everything else may be due earlier."""
    queue = StreamQueue[str](interval_s=1.0, capacity=3)
    assert queue.put(Entry("a", slot="s"), 0.0)
    assert not queue.put(Entry("b", slot="s"), 0.1)
    assert queue.put(Entry("event"), 0.2)
    assert queue.put(Entry("c", slot="s"), 0.3)
    assert queue.put(Entry("too many"), 0.4)
    assert queue.overflowed
    assert not queue.put(Entry("late"), 0.5)
