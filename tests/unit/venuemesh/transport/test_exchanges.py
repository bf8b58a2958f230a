"""What becomes of a request on a socket: answered, certainly not sent, or in doubt; and what is recorded of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from tests.fakes import ManualClock
from tests.streams import link
from venuemesh.errors import MeshError, OutcomeUnknown, RateLimited, Reason, Sent, VenueUnavailable
from venuemesh.transport.exchanges import Exchanges, SocketRequest
from venuemesh.transport.in_flight import InFlight
from venuemesh.transport.limiter import Priority
from venuemesh.transport.link import LinkStats
from venuemesh.transport.observer import NullObserver, RequestOutcome, RequestRecord
from venuemesh.transport.session import Frame


def frame(data: bytes = b"answer", epoch: int = 1) -> Frame:
    """A frame of the venue."""
    return Frame(epoch, data, 7, 0.0)


class FakeSocket:
    """A connection whose writes end as the test says; `held` keeps them waiting."""

    def __init__(self, clock: ManualClock) -> None:
        self.stats = LinkStats(clock)
        self.epoch = 1
        self.sent: list[bytes] = []
        self.waits_s: list[float] = []
        self.fault: MeshError | None = None
        self.wrote = asyncio.Event()
        self.held = asyncio.Event()
        self.held.set()

    async def send(self, data: bytes, *, priority: Priority, timeout_s: float) -> int:
        epoch = self.epoch
        self.sent.append(data)
        self.waits_s.append(timeout_s)
        self.wrote.set()
        await self.held.wait()
        if self.fault is not None:
            raise self.fault
        return epoch


@dataclass
class Desk(NullObserver):
    """Exchanges over a fake socket, and what they told."""

    clock: ManualClock = field(default_factory=ManualClock)
    records: list[RequestRecord] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    in_flight: InFlight[int] = field(default_factory=lambda: InFlight("posts", most=20))

    def __post_init__(self) -> None:
        self.socket = FakeSocket(self.clock)
        self.exchanges: Exchanges[int, str] = Exchanges(
            self.socket,
            self.in_flight,
            link("user/main", clock=self.clock, observer=self),
            late_endpoint="post.late",
            on_late=lambda answer, _: self.late.append(answer),
        )

    def on_request(self, record: RequestRecord) -> None:
        self.records.append(record)

    def ask(
        self, key: int = 1, *, write: bool = True, timeout_s: float = 5.0, expires_ms: int | None = None
    ) -> asyncio.Task[str]:
        """A request on its way."""
        request = SocketRequest(
            endpoint="post.order",
            write=write,
            frame=b"envelope",
            body=b"payload",
            priority=Priority.ORDER,
            started_s=self.clock.monotonic_s(),
            started_ns=self.clock.now_ns(),
            correlation_id="c-1",
            expires_ms=expires_ms,
        )
        self.in_flight.open(key, now_s=request.started_s)
        return asyncio.create_task(
            self.exchanges.ask(key, request, timeout_s, lambda: self.written.append(key)), name="ask"
        )

    def end_connection(self) -> None:
        """The connection broke."""
        self.exchanges.lost(self.in_flight.disconnected(self.socket.epoch), "peer_closed")

    def outcome(self) -> tuple[RequestOutcome, Sent]:
        """What was recorded of the one request."""
        (record,) = self.records
        return record.outcome, record.sent


async def test_answer_goes_to_its_caller_with_a_record_of_both() -> None:
    """The envelope is written, the payload is kept; the latency counts."""
    desk = Desk()
    asking = desk.ask()
    await desk.socket.wrote.wait()
    await asyncio.sleep(0)
    desk.clock.advance(0.25)
    assert desk.written == [1] and not asking.done()
    desk.in_flight.answered(1)
    assert desk.exchanges.answered(1, "accepted", frame())
    assert await asking == "accepted"
    assert desk.socket.sent == [b"envelope"]
    (record,) = desk.records
    assert (record.outcome, record.sent, record.write, record.status) == (RequestOutcome.OK, Sent.YES, True, 0)
    assert (record.request_body, record.response_body, record.latency_s) == (b"payload", b"answer", 0.25)
    assert (record.link, record.endpoint, record.correlation_id) == ("user/main", "post.order", "c-1")
    snapshot = desk.socket.stats.snapshot()
    assert (snapshot.requests, snapshot.error_rate, snapshot.latency_p50_s) == (1, 0.0, 0.25)


@pytest.mark.parametrize(("expires_in_s", "wait_s"), [(None, 5.0), (60.0, 5.0), (2.0, 2.0), (-1.0, 0.0)])
async def test_request_is_held_back_no_longer_than_it_is_good_for(expires_in_s: float | None, wait_s: float) -> None:
    """Room under the venue's limits is not spent on what the venue will refuse; its answer is waited for anyway."""
    desk = Desk()
    now_ms = desk.clock.now_ns() // 1_000_000
    asking = desk.ask(expires_ms=None if expires_in_s is None else now_ms + int(expires_in_s * 1_000))
    await desk.socket.wrote.wait()
    assert desk.socket.waits_s == [pytest.approx(wait_s, abs=1e-3)]
    desk.clock.advance(4.5)
    desk.in_flight.answered(1)
    assert desk.exchanges.answered(1, "accepted", frame())
    assert await asking == "accepted"


async def test_request_that_certainly_did_not_leave_is_said_so_and_frees_its_place() -> None:
    """Another way may be tried at once; nobody is told that it was written."""
    desk = Desk()
    desk.socket.fault = VenueUnavailable("not connected", sent=Sent.NO)
    with pytest.raises(VenueUnavailable) as refused:
        await desk.ask()
    assert refused.value.sent is Sent.NO
    assert desk.written == [] and len(desk.in_flight) == 0
    assert desk.outcome() == (RequestOutcome.NOT_CONNECTED, Sent.NO)


async def test_request_refused_by_our_own_limit_leaves_no_record() -> None:
    """It says nothing about the link."""
    desk = Desk()
    desk.socket.fault = RateLimited("spent", reason=Reason.RATE_LIMIT_LOCAL)
    with pytest.raises(RateLimited):
        await desk.ask()
    assert desk.records == [] and len(desk.in_flight) == 0


async def test_write_that_broke_waits_for_an_answer_that_may_be_on_its_way() -> None:
    """The frame may have left, and its answer may be among the frames not yet read."""
    desk = Desk()
    desk.socket.fault = OutcomeUnknown("the connection broke during a write")
    asking = desk.ask()
    await desk.socket.wrote.wait()
    await asyncio.sleep(0)
    assert desk.written == [1] and not asking.done()
    desk.in_flight.answered(1)
    desk.exchanges.answered(1, "accepted", frame())
    assert await asking == "accepted"


@pytest.mark.parametrize(("write", "error"), [(True, OutcomeUnknown), (False, VenueUnavailable)])
async def test_request_whose_connection_ends_is_in_doubt(write: bool, error: type[MeshError]) -> None:
    """A lost write may have been taken; a lost read is only unavailability."""
    desk = Desk()
    asking = desk.ask(write=write)
    await desk.socket.wrote.wait()
    await asyncio.sleep(0)
    desk.end_connection()
    with pytest.raises(error, match=r"user/main: the connection ended \(peer_closed\)") as lost:
        await asking
    assert lost.value.sent is Sent.MAYBE
    assert desk.outcome() == (RequestOutcome.LOST, Sent.MAYBE)
    assert len(desk.in_flight) == 0 and desk.socket.stats.snapshot().error_rate == 1.0


async def test_connection_that_ends_while_the_request_is_written_leaves_it_in_doubt() -> None:
    """It was handed over, and no answer can come; whoever counts what was written is told."""
    desk = Desk()
    desk.socket.held.clear()
    asking = desk.ask()
    await desk.socket.wrote.wait()
    desk.end_connection()
    assert not asking.done()
    desk.socket.held.set()
    with pytest.raises(OutcomeUnknown, match="as the request was written"):
        await asking
    assert desk.written == [1] and len(desk.in_flight) == 0


async def test_no_answer_in_time_is_in_doubt_and_the_late_one_is_recorded() -> None:
    """The caller is told the truth at its deadline; the answer is a record of its own."""
    desk = Desk()
    with pytest.raises(OutcomeUnknown, match=r"no reply within 0\.000 s"):
        await desk.ask(timeout_s=0.0)
    assert len(desk.in_flight) == 1  # the venue may still count it
    assert desk.in_flight.answered(1) == (True, None)
    assert not desk.exchanges.answered(1, "accepted", frame(b"after all"))
    lost, late = desk.records
    assert (lost.outcome, lost.sent) == (RequestOutcome.LOST, Sent.MAYBE)
    assert (late.outcome, late.endpoint, late.started_ns) == (RequestOutcome.LATE, "post.late", 7)
    assert (late.request_body, late.response_body) == (b"", b"after all")


async def test_caller_that_goes_away_leaves_a_record_and_no_failure_of_the_link() -> None:
    """The answer will be late: it is not lost with its caller."""
    desk = Desk()
    asking = desk.ask()
    await desk.socket.wrote.wait()
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert desk.outcome() == (RequestOutcome.CANCELED, Sent.MAYBE)
    assert desk.socket.stats.snapshot().requests == 0
    assert desk.in_flight.answered(1)[0]


async def test_answer_in_the_moment_of_cancellation_is_told_as_late() -> None:
    """What the venue said is never lost."""
    desk = Desk()
    asking = desk.ask()
    await desk.socket.wrote.wait()
    await asyncio.sleep(0)
    desk.exchanges.answered(1, "too late", frame())
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert desk.late == ["too late"]
