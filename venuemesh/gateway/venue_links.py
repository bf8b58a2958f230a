"""What all connections of an adapter share: one rate limiter, one HTTP client, one board of their health."""

from __future__ import annotations

from collections.abc import Iterable

from venuemesh.clock import Clock
from venuemesh.gateway.link_board import REST_LINK, LinkBoard
from venuemesh.gateway.settings import VenueGatewaySettings
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import BudgetSpec, Limiter, LimiterQueue
from venuemesh.transport.observer import NullObserver, Observer
from venuemesh.transport.rest import RestClient
from venuemesh.transport.wiring import LinkWiring


class VenueLinks:
    """Made once by an adapter, which says over them what its venue understands.

    Args:
        ws_url: where its sockets go.
        budgets: the venue's limits.
        observer: hears of every request and state, behind the board.
    """

    def __init__(
        self,
        settings: VenueGatewaySettings,
        *,
        ws_url: str,
        budgets: Iterable[BudgetSpec],
        clock: Clock,
        observer: Observer | None,
    ) -> None:
        self.board = LinkBoard(clock, observer or NullObserver(), settings.links.policy)
        self.gate = LimiterGate(LimiterQueue(Limiter(budgets)), clock)
        self.client = RestClient(
            settings.url,
            guard=settings.guard,
            clock=clock,
            name=REST_LINK,
            gate=self.gate,
            stats=self.board.add(REST_LINK),
            observer=self.board,
        )
        self._ws_url = ws_url
        self._guard = settings.guard
        self._clock = clock

    def wiring(self, link_id: str) -> LinkWiring:
        """What a new socket is made of; it is on the board from now on."""
        return LinkWiring(
            url=self._ws_url,
            guard=self._guard,
            clock=self._clock,
            name=link_id,
            gate=self.gate,
            stats=self.board.add(link_id),
            observer=self.board,
        )
