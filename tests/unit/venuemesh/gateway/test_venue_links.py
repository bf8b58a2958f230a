"""What an adapter's connections share."""

from __future__ import annotations

from typing import ClassVar

from tests.fakes import ManualClock
from venuemesh.gateway.settings import Hosts, VenueGatewaySettings
from venuemesh.gateway.venue_links import VenueLinks
from venuemesh.transport.environment import Environment
from venuemesh.transport.limiter import BudgetSpec
from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import NullObserver, RequestRecord, StateRecord
from venuemesh.v1 import stream_pb2


class Settings(VenueGatewaySettings):
    """A venue nowhere but on this machine."""

    env_prefix: ClassVar[str] = "TEST_"
    hosts: ClassVar[Hosts] = Hosts(
        urls={Environment.SIMULATOR: "http://127.0.0.1:1"}, testnet=frozenset(), mainnet=frozenset()
    )
    venue: str = "test"


class Watcher(NullObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def on_request(self, record: RequestRecord) -> None:
        """Ignored."""

    def on_state(self, record: StateRecord) -> None:
        self.states.append(record.link)


async def test_every_socket_is_on_the_board_under_one_limiter() -> None:
    """Its states reach the board, and behind the board whoever watches."""
    watcher = Watcher()
    links = VenueLinks(
        Settings.model_validate({}),
        ws_url="ws://127.0.0.1:1/ws",
        budgets=[BudgetSpec(name="messages", limit=2, window_s=60)],
        clock=ManualClock(),
        observer=watcher,
    )
    market, private = links.wiring("market"), links.wiring("user/main")
    assert (market.name, market.url, private.name) == ("market", "ws://127.0.0.1:1/ws", "user/main")
    assert market.gate is private.gate is links.gate
    assert [view.name for view in links.gate.remaining()] == ["messages"]
    assert private.stats is not None and private.stats is not market.stats
    private.stats.connect_succeeded()
    private.watcher.on_state(StateRecord(link="user/main", state=LinkState.LIVE, at_ns=7))
    shown = {status.link_id: status.state for status in links.board.statuses()}
    assert list(shown) == ["rest", "market", "user/main"]
    assert shown["user/main"] == stream_pb2.LINK_STATE_LIVE
    assert shown["market"] == stream_pb2.LINK_STATE_CONNECTING
    assert watcher.states == ["user/main"]
    await links.client.aclose()
