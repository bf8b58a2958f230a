"""How the venue stands: one state with its cause, its links and sections, published when any of it changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from venuemesh.clock import Clock
from venuemesh.gateway.account import Account
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.sections import Sections, told_facts
from venuemesh.gateway.venue import Venue
from venuemesh.journal import EventLog
from venuemesh.v1 import event_pb2, stream_pb2, venue_pb2


class VenueHealth:
    """The state of one venue as its gateway sees it.

    Args:
        journal_up: whether the broker takes events now.
    """

    def __init__(
        self,
        *,
        venue: Venue,
        environment: venue_pb2.Environment.ValueType,
        accounts: Mapping[str, Account],
        desk: Desk,
        instruments: Instruments,
        sections: Sections,
        log: EventLog,
        clock: Clock,
        journal_up: Callable[[], bool],
    ) -> None:
        self._venue = venue
        self._environment = environment
        self._accounts = accounts
        self._desk = desk
        self._instruments = instruments
        self._sections = sections
        self._log = log
        self._clock = clock
        self._journal_up = journal_up
        self.on_status: list[Callable[[venue_pb2.VenueStatus], None]] = []
        """Called with each new status."""
        self._told_sections: list[bytes] = []
        self._status = self._new_status(venue_pb2.VENUE_STATE_RECONCILING, "starting")

    async def watch_sections(self, period_s: float) -> None:
        """Publish what changed in a section: silence and prices that stand make no event. Until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            if told_facts(self._sections.statuses(self._instruments.all())) != self._told_sections:
                self.publish()

    @property
    def serving(self) -> bool:
        """Whether every account is caught up with the venue and the journal takes events."""
        return all(gate.ready for gate in self._desk.gates.values()) and self._journal_up()

    def status(self) -> venue_pb2.VenueStatus:
        """Health of the venue now."""
        status = venue_pb2.VenueStatus()
        status.CopyFrom(self._status)
        del status.links[:]
        status.links.extend(self._venue.links())
        status.sections.extend(self._sections.statuses(self._instruments.all()))
        return status

    def message(self) -> venue_pb2.Venue:
        """The venue as VenueService shows it."""
        return venue_pb2.Venue(
            venue=self._venue.name,
            display_name=self._venue.name,
            environment=self._environment,
            account_ids=sorted(self._accounts),
            capabilities=self._venue.capabilities,
            status=self.status(),
        )

    def _new_status(self, state: venue_pb2.VenueState.ValueType, cause: str) -> venue_pb2.VenueStatus:
        return venue_pb2.VenueStatus(
            venue=self._venue.name, state=state, since=timestamp(self._clock.now_ns()), cause=cause
        )

    def publish(self) -> None:
        """Tell the state anew, if anything but figures changed."""
        state, cause = self._judge()
        same = (state, cause) == (self._status.state, self._status.cause)
        facts = told_facts(self._sections.statuses(self._instruments.all()))
        if same and facts == self._told_sections:
            return
        self._told_sections = facts
        if not same:
            self._status = self._new_status(state, cause)
        status = self.status()
        event = event_pb2.Event(received_time=timestamp(self._clock.now_ns()), venue_status=status)
        self._log.append_venue_event(event)
        for listener in self.on_status:
            listener(status)

    def _judge(self) -> tuple[venue_pb2.VenueState.ValueType, str]:
        if self._desk.draining:
            return venue_pb2.VENUE_STATE_DRAINING, "stopping"
        if self._desk.drained_because:
            return venue_pb2.VENUE_STATE_DRAINING, self._desk.drained_because
        waiting = {name: gate.cause for name, gate in self._desk.gates.items() if not gate.ready}
        if waiting:
            causes = "; ".join(f"{name}: {cause}" for name, cause in sorted(waiting.items()))
            down = any(link.state == stream_pb2.LINK_STATE_DOWN for link in self._venue.links())
            state = venue_pb2.VENUE_STATE_DOWN if down else venue_pb2.VENUE_STATE_RECONCILING
            return state, causes
        degraded = [link for link in self._venue.links() if link.state == stream_pb2.LINK_STATE_DEGRADED]
        if degraded:
            causes = "; ".join(f"{link.link_id}: {link.cause}" for link in degraded)
            paused = "; new orders are paused" if self._desk.pauses else ""
            return venue_pb2.VENUE_STATE_DEGRADED, f"degraded: {causes}{paused}"
        return venue_pb2.VENUE_STATE_TRADING, ""
