"""Nonces against a venue that counts as the reference says: nothing is accepted twice, nothing is stuck."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter.nonces import (
    MAX_NONCE,
    NonceFate,
    NonceLease,
    NonceMode,
    NoncePool,
    NonceSource,
    fate_of_error,
    fate_of_refusal,
    split_number,
)
from gateway_lighter.refusals import classify_error
from venuemesh.errors import InvalidRequest, MeshError, OutcomeUnknown, RateLimited, Sent, Unavailable, VenueUnavailable

NOW_MS = 1_790_000_000_000
MODES = pytest.mark.parametrize("mode", NonceMode)


@dataclass
class Counter:
    """The venue's counter of one key."""

    mode: NonceMode
    last: int = 4
    accepted: list[int] = field(default_factory=list)

    def take(self, nonce: int) -> bool:
        ok = nonce > self.last if self.mode is NonceMode.SKIPPING else nonce == self.last + 1
        if ok:
            self.last = nonce
            self.accepted.append(nonce)
        return ok


def synchronized(mode: NonceMode, next_nonce: int = 5) -> NonceSource:
    """A source that has asked the venue."""
    source = NonceSource(4, mode)
    assert source.synchronize(next_nonce)
    return source


def test_sequential_source_counts_from_the_venues_nonce() -> None:
    """5, 6, 7."""
    source = synchronized(NonceMode.SEQUENTIAL)
    assert [source.lease(NOW_MS).nonce for _ in range(3)] == [5, 6, 7]


def test_skipping_source_counts_on_the_clock_and_never_stands_still() -> None:
    """A clock that does not move, or goes back, still gives rising nonces."""
    source = NonceSource(4)
    assert source.lease(NOW_MS).nonce == NOW_MS
    assert source.lease(NOW_MS).nonce == NOW_MS + 1
    assert source.lease(NOW_MS - 60_000).nonce == NOW_MS + 2


def test_sequential_source_when_the_venue_was_never_asked_leases_nothing() -> None:
    """A journal alone does not say what the venue has taken."""
    source = NonceSource(4, NonceMode.SEQUENTIAL)
    source.restore(17)
    with pytest.raises(Unavailable):
        source.lease(NOW_MS)
    assert source.synchronize(18)
    assert source.lease(NOW_MS).nonce == 18


def test_skipping_source_after_a_restart_goes_on_above_the_journal() -> None:
    """Also when the wall clock was set back meanwhile."""
    source = NonceSource(4)
    source.restore(NOW_MS + 500)
    assert source.lease(NOW_MS).nonce == NOW_MS + 501


def test_sequential_nonce_refused_for_another_reason_is_used_again_when_nothing_was_built_on_it() -> None:
    """No question to the venue is needed."""
    source = synchronized(NonceMode.SEQUENTIAL)
    source.settle(source.lease(NOW_MS), NonceFate.UNSPENT)
    assert source.in_step
    assert source.lease(NOW_MS).nonce == 5


def test_sequential_gap_is_seen_and_closed_by_asking() -> None:
    """5 is refused while 6 travels: 6 cannot be accepted, and the next waits for the venue's count."""
    source = synchronized(NonceMode.SEQUENTIAL)
    first, second, third = (source.lease(NOW_MS) for _ in range(3))
    source.settle(first, NonceFate.UNSPENT)
    assert not source.in_step
    assert not source.is_current(third)  # unsent: give it back instead of having it refused
    assert not source.synchronize(5)  # 6 is still out there
    source.settle(second, NonceFate.MISMATCH)
    source.settle(third, NonceFate.UNSPENT)
    assert source.synchronize(5)
    assert source.lease(NOW_MS).nonce == 5


@pytest.mark.parametrize("fate", [NonceFate.UNKNOWN, NonceFate.MISMATCH])
def test_sequential_source_in_doubt_asks_before_the_next_order(fate: NonceFate) -> None:
    """A lost answer and a mismatch both mean that the count is not known."""
    source = synchronized(NonceMode.SEQUENTIAL)
    source.settle(source.lease(NOW_MS), fate)
    with pytest.raises(Unavailable, match="must be fetched"):
        source.lease(NOW_MS)


def test_skipping_source_after_a_lost_answer_goes_on_at_once() -> None:
    """A cancel never waits for a query."""
    source = NonceSource(4)
    lost = source.lease(NOW_MS)
    source.settle(lost, NonceFate.UNKNOWN)
    assert source.in_step
    assert source.lease(NOW_MS).nonce == NOW_MS + 1


def test_skipping_mismatch_of_an_overtaken_nonce_needs_no_question() -> None:
    """Our own later transaction was accepted first: take a new nonce, that is all."""
    source = NonceSource(4)
    slow, fast = source.lease(NOW_MS), source.lease(NOW_MS)
    source.settle(fast, NonceFate.SPENT)
    assert not source.is_current(slow)
    source.settle(slow, NonceFate.MISMATCH)
    assert source.in_step


def test_skipping_mismatch_from_a_counter_ahead_of_us_asks_the_venue() -> None:
    """Somebody else used the key with a later clock."""
    source = NonceSource(4)
    source.settle(source.lease(NOW_MS), NonceFate.MISMATCH)
    assert not source.in_step
    assert source.synchronize(NOW_MS + 90_000)
    assert source.lease(NOW_MS).nonce == NOW_MS + 90_000


@MODES
def test_settling_twice_changes_nothing(mode: NonceMode) -> None:
    """A late answer after a time-out is harmless."""
    source = synchronized(mode)
    lease = source.lease(NOW_MS)
    source.settle(lease, NonceFate.SPENT)
    source.settle(lease, NonceFate.MISMATCH)
    assert source.in_step and source.outstanding == 0


@MODES
def test_lost_sight_asks_the_venue(mode: NonceMode) -> None:
    """Such as after an operator used the key by hand."""
    source = synchronized(mode)
    source.lost_sight()
    with pytest.raises(Unavailable):
        source.lease(NOW_MS)


def test_nonces_end_before_the_venues_bound() -> None:
    """2^47 - 2 is the last."""
    source = synchronized(NonceMode.SKIPPING, 2**47 - 2)
    assert source.lease(NOW_MS).nonce == 2**47 - 2
    with pytest.raises(Unavailable, match="no nonces left"):
        source.lease(NOW_MS)


STEPS = st.lists(st.tuples(st.sampled_from(["order", "arrive", "lose", "refuse", "ask", "drop"]), st.integers(0, 9)))


@MODES
@given(steps=STEPS, foreign=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_whatever_is_lost_or_overtaken_no_nonce_is_accepted_twice_and_orders_get_through(
    mode: NonceMode, steps: list[tuple[str, int]], foreign: int
) -> None:
    """Orders are leased, arrive in any order, are lost with or without effect, or refused; then all is well again."""
    venue, source = Counter(mode), NonceSource(4, mode)
    now_ms = NOW_MS
    travelling: list[NonceLease] = []
    venue.last += foreign
    for step, choice in steps:
        now_ms += choice % 3
        if step == "ask":
            source.synchronize(venue.last + 1)
        elif step == "order":
            try:
                travelling.append(source.lease(now_ms))
            except Unavailable:
                assert not source.in_step
        elif travelling:
            lease = travelling.pop(choice % len(travelling))
            if step == "arrive":
                took = venue.take(lease.nonce)
                source.settle(lease, NonceFate.SPENT if took else NonceFate.MISMATCH)
            elif step == "lose":
                if choice % 2:
                    venue.take(lease.nonce)
                source.settle(lease, NonceFate.UNKNOWN)
            else:
                source.settle(lease, NonceFate.UNSPENT)
        open_nonces = [lease.nonce for lease in travelling]
        assert len(set(open_nonces)) == len(open_nonces)
    assert len(set(venue.accepted)) == len(venue.accepted)
    for lease in travelling:
        source.settle(lease, NonceFate.UNSPENT)
    for _ in range(3):  # whatever happened, one question to the venue and the next orders pass
        if not source.in_step:
            assert source.synchronize(venue.last + 1)
        fresh = source.lease(now_ms)
        took = venue.take(fresh.nonce)
        source.settle(fresh, NonceFate.SPENT if took else NonceFate.MISMATCH)
    assert took


# --- several keys ------------------------------------------------------------------------------------------


def test_pool_takes_turns_and_prefers_a_key_at_rest() -> None:
    """Three keys, three transactions side by side; the fourth goes to the first that is free."""
    pool = NoncePool([4, 5, 6])
    leases = [pool.lease(NOW_MS) for _ in range(3)]
    assert [lease.api_key_index for lease in leases] == [4, 5, 6]
    pool.settle(leases[1], NonceFate.SPENT)
    assert pool.lease(NOW_MS).api_key_index == 5
    assert pool.lease(NOW_MS).api_key_index == 6  # all busy alike: the turn goes on


def test_pool_passes_over_a_key_that_must_ask() -> None:
    """One doubtful key does not stop the account."""
    pool = NoncePool([4, 5])
    pool.source(4).lost_sight()
    assert pool.out_of_step() == (4,)
    assert {pool.lease(NOW_MS).api_key_index for _ in range(3)} == {5}
    pool.source(5).lost_sight()
    with pytest.raises(Unavailable):
        pool.lease(NOW_MS)


@given(keys=st.lists(st.integers(0, 254), min_size=1, max_size=6, unique=True), count=st.integers(1, 40))
def test_pool_spreads_transactions_evenly(keys: list[int], count: int) -> None:
    """No key has two open transactions more than another."""
    pool = NoncePool(keys)
    for _ in range(count):
        pool.lease(NOW_MS)
    busy = [pool.source(key).outstanding for key in keys]
    assert max(busy) - min(busy) <= 1 and sum(busy) == count


@given(key=st.integers(0, 254), nonce=st.integers(0, 2**47 - 2))
def test_number_for_the_journal_round_trips_in_64_bits(key: int, nonce: int) -> None:
    """Key and nonce, positive, rising with the nonce."""
    number = NonceLease(api_key_index=key, nonce=nonce, generation=0).number
    assert 0 <= number < 2**63
    assert split_number(number) == (key, nonce)


def test_pool_restored_from_the_journal_goes_on_above_it() -> None:
    """Numbers of keys no longer in use are ignored."""
    before = NoncePool([4, 5])
    numbers = [before.lease(NOW_MS + 1_000).number for _ in range(4)]
    after = NoncePool([5, 6])
    for number in numbers:
        after.restore(number)
    assert after.source(5).lease(NOW_MS).nonce == NOW_MS + 1_002
    assert after.source(6).lease(NOW_MS).nonce == NOW_MS


@pytest.mark.parametrize("keys", [[], [4, 4]])
def test_pool_without_keys_or_with_one_twice_is_refused(keys: list[int]) -> None:
    """A configuration fault."""
    with pytest.raises(ValueError, match="at least one"):
        NoncePool(keys)


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (21104, NonceFate.MISMATCH),
        (21105, NonceFate.MISMATCH),
        (21706, NonceFate.UNSPENT),
        (29500, NonceFate.UNKNOWN),
        (99999, NonceFate.UNKNOWN),
    ],
)
def test_refusal_at_once_tells_what_became_of_the_nonce(code: int, fate: NonceFate) -> None:
    """Only a code we know proves that the nonce is free."""
    assert fate_of_refusal(classify_error(code)) is fate


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (VenueUnavailable("away", sent=Sent.NO), NonceFate.UNSPENT),
        (RateLimited("wait", sent=Sent.YES), NonceFate.UNSPENT),
        (InvalidRequest("unread", sent=Sent.YES), NonceFate.UNSPENT),
        (OutcomeUnknown("lost"), NonceFate.UNKNOWN),
        (VenueUnavailable("broken", sent=Sent.MAYBE), NonceFate.UNKNOWN),
    ],
)
def test_failed_send_tells_what_became_of_the_nonce(error: MeshError, fate: NonceFate) -> None:
    """Certainly unsent or unread is free, anything else is in doubt."""
    assert fate_of_error(error) is fate


def test_mode_is_the_pools() -> None:
    """All keys of an account are used alike."""
    assert NoncePool([4], NonceMode.SEQUENTIAL).mode is NonceMode.SEQUENTIAL


@MODES
def test_run_of_nonces_begins_with_its_lease_only_while_nothing_follows_it(mode: NonceMode) -> None:
    """A batch has no gap: where another lease stands behind the first, the first is given back."""
    source = synchronized(mode, 5)
    free = source.lease(NOW_MS)
    run = source.lease_run(free, 3, NOW_MS)
    assert [lease.nonce for lease in run] == [free.nonce, free.nonce + 1, free.nonce + 2]
    assert source.outstanding == 3
    if mode is NonceMode.SEQUENTIAL:
        return
    first, behind = source.lease(NOW_MS), source.lease(NOW_MS)
    later = source.lease_run(first, 2, NOW_MS)
    assert [lease.nonce for lease in later] == [behind.nonce + 1, behind.nonce + 2]
    assert source.outstanding == 3 + 1 + 2
    assert source.lease_run(later[0], 1, NOW_MS) == [later[0]]  # one alone is good wherever it stands


def test_run_of_nonces_that_does_not_fit_is_given_back_whole() -> None:
    """At the end of all nonces nothing stays leased."""
    source = NonceSource(4)
    source.restore(MAX_NONCE - 3)
    with pytest.raises(Unavailable):
        source.lease_run(source.lease(NOW_MS), 4, NOW_MS)
    assert source.outstanding == 0


@given(sizes=st.lists(st.integers(1, 15), min_size=1, max_size=12), taken=st.lists(st.booleans(), min_size=12))
@settings(max_examples=50, deadline=None)
def test_batches_and_single_sends_of_one_key_never_share_a_nonce(sizes: list[int], taken: list[bool]) -> None:
    """Whatever stands between the reservation and the batch (P36)."""
    source, venue, seen = NonceSource(4), Counter(NonceMode.SKIPPING), set[int]()
    for size, other in zip(sizes, taken, strict=False):
        first = source.lease(NOW_MS)
        single = [source.lease(NOW_MS)] if other else []
        run = source.lease_run(first, size, NOW_MS)
        assert [lease.nonce for lease in run] == list(range(run[0].nonce, run[0].nonce + size))
        sent = sorted([*single, *run], key=lambda lease: lease.nonce)
        assert not seen & {lease.nonce for lease in sent}
        seen |= {lease.nonce for lease in sent}
        for lease in sent:
            assert venue.take(lease.nonce)
            source.settle(lease, NonceFate.SPENT)
    assert source.outstanding == 0
