"""The parts of risk put together, and their life beside the router's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from router.facade import Facade
from router.risk_desk import RiskDesk, RiskParts, leverage_of
from router.risk_events import RiskEvents
from router.risk_feeds import AccountFeeds, Marks
from router.risk_kill import KillSwitches
from router.risk_ledger import Ledger, OrderKey
from router.risk_log import ReservationLog
from router.risk_plugins import load_checks
from router.risk_reservations import Reservations
from router.risk_view import AccountFold
from router.service_risk import RefusalNews, RiskServicer, RiskView
from router.settings import RiskSettings
from router.venues import VenueLink, Venues
from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.risk_board import RiskBoard
from venuemesh.risk_store import RiskStore
from venuemesh.streaming import StreamHub
from venuemesh.v1 import stream_pb2


@dataclass(frozen=True, kw_only=True)
class Risk:
    """Everything about risk in one router."""

    desk: RiskDesk
    store: RiskStore
    kills: KillSwitches
    events: RiskEvents
    news: RefusalNews
    view: RiskView

    @classmethod
    def build(cls, venues: Venues, bus: Bus, clock: Clock, settings: RiskSettings, writer_id: str) -> Risk:
        """Make the parts; nothing runs yet.

        Raises:
            CheckNotFound: a check that the settings name cannot be made.
        """
        ledger = Ledger()
        book = Reservations(ledger)
        log = ReservationLog(bus, book)

        def released(key: OrderKey, shown_at: stream_pb2.StreamPosition) -> None:
            log.release(key, shown_at)

        def fold(link: VenueLink, account_id: str) -> AccountFold:
            account = (link.name, account_id)
            return AccountFold(account, ledger, book, lambda symbol: leverage_of(link, symbol), released)

        store = RiskStore(bus, clock, RiskBoard())
        parts = RiskParts(
            store=store,
            ledger=ledger,
            book=book,
            log=log,
            accounts=AccountFeeds(venues, settings, clock, fold),
            marks=Marks(venues, ledger, settings, clock),
            checks=load_checks(settings.checks),
        )
        desk = RiskDesk(parts, venues, bus, clock, settings)
        kills = KillSwitches(store, venues, clock, settings)
        events = RiskEvents(bus, clock, store.board, writer_id)
        news = RefusalNews(events, store, clock, settings.breach_event_s)
        desk.on_refusal.append(news.on_refusal)
        view = RiskView(store, ledger, kills, events)
        return cls(desk=desk, store=store, kills=kills, events=events, news=news, view=view)

    def servicer(self, facade: Facade, hub: StreamHub, clock: Clock) -> RiskServicer:
        """RiskService over these parts."""
        return RiskServicer(facade, self.store, self.view, self.kills, self.events, hub, clock)

    async def run(self) -> None:
        """Keep everything going until cancelled."""
        parts = self.desk.parts
        async with asyncio.TaskGroup() as tasks:
            for name, work in (
                ("bucket", self.store.run()),
                ("log", parts.log.run()),
                ("accounts", parts.accounts.run()),
                ("marks", parts.marks.run()),
                ("settling", self.desk.run()),
                ("kill-switches", self.kills.run()),
                ("events", self.events.run()),
                ("news", self.news.run()),
            ):
                tasks.create_task(work, name=f"risk-{name}")
