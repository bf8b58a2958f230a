"""The board of links."""

from __future__ import annotations

from tests.fakes import ManualClock
from venuemesh.errors import Sent
from venuemesh.gateway.link_board import LinkBoard
from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import NullObserver, RequestOutcome, RequestRecord, StateRecord
from venuemesh.v1 import stream_pb2


def test_board_shows_state_since_when_and_measurements() -> None:
    """What the transport measured, in the contract's units."""
    clock = ManualClock()
    board = LinkBoard(clock)
    stats = board.add("market")
    (before,) = board.statuses()
    assert before.state == stream_pb2.LINK_STATE_CONNECTING
    assert not before.HasField("round_trip")
    clock.advance(10)
    stats.connect_succeeded()
    board.on_state(StateRecord(link="market", state=LinkState.LIVE, at_ns=clock.now_ns()))
    stats.request_done(failed=False, latency_s=0.25)
    stats.request_done(failed=True)
    stats.message_received()
    clock.advance(10)
    (after,) = board.statuses()
    assert after.state == stream_pb2.LINK_STATE_LIVE
    assert after.since.ToNanoseconds() == clock.now_ns() - 10_000_000_000
    assert after.round_trip.ToNanoseconds() == 250_000_000
    assert (after.error_rate_ppm, after.uptime_ppm) == (500_000, 500_000)
    assert after.last_message_time.ToNanoseconds() == clock.now_ns() - 10_000_000_000


class Watcher(NullObserver):
    """Keeps what it is told, and fails."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_request(self, record: RequestRecord) -> None:
        self.seen.append(record.endpoint)
        raise RuntimeError("a fault of the watcher")

    def on_state(self, record: StateRecord) -> None:
        self.seen.append(record.state)
        raise RuntimeError("a fault of the watcher")


def test_a_failing_watcher_changes_nothing() -> None:
    """Metrics and audit hear of everything and never stand in an order's way."""
    watcher = Watcher()
    board = LinkBoard(ManualClock(), watcher)
    board.add("rest")
    board.on_state(StateRecord(link="rest", state=LinkState.DOWN, at_ns=7))
    board.on_request(
        RequestRecord(
            link="rest",
            endpoint="exchange.order",
            outcome=RequestOutcome.OK,
            write=True,
            sent=Sent.YES,
            started_ns=0,
            latency_s=0.1,
            request_body=b"",
        )
    )
    assert watcher.seen == ["down", "exchange.order"]
    assert board.statuses()[0].state == stream_pb2.LINK_STATE_CONNECTING
