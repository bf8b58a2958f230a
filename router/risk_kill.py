"""The kill switch over all venues: halt first, then every gateway cancels and asks its venue, until each has verified.

The switch lies in the risk bucket with what each venue has reached, so whichever router is up goes on with it: after a
restart, when a venue comes back, and beside other routers. Only "verified" ends the work at a venue.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TypeAlias

from router.calls import cancel
from router.fanout import NOT_HERE
from router.settings import RiskSettings
from router.venues import VenueLink, Venues
from venuemesh.clock import Clock
from venuemesh.deadlines import background_context, remaining_s
from venuemesh.errors import MeshError
from venuemesh.risk_board import Record
from venuemesh.risk_commands import RiskCommands
from venuemesh.risk_scope import Scope
from venuemesh.risk_store import RiskStore
from venuemesh.v1 import risk_pb2, risk_service_pb2

log = logging.getLogger(__name__)

Job: TypeAlias = tuple[Scope, int, str]
"""A kill switch's scope, when it was engaged, and a venue."""
RESERVE_S = 0.25
DEFAULT_WAIT_S = 5.0


class KillSwitches:
    """Engages, carries out and releases. One task runs `run`."""

    def __init__(self, store: RiskStore, venues: Venues, clock: Clock, settings: RiskSettings) -> None:
        self._store = store
        self._board = store.board
        self._commands = RiskCommands(store, clock)
        self._venues = venues
        self._settings = settings
        self._unstored: dict[Scope, risk_pb2.KillSwitchState] = {}
        self._rows: dict[Job, risk_pb2.KillSwitchVenueResult] = {}
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._not_before_s: dict[Job, float] = {}
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._wake = asyncio.Event()
        self._board.on_change.append(self._on_record)

    def _on_record(self, record: Record) -> None:
        if not isinstance(record, risk_pb2.KillSwitchState):
            return
        self._wake.set()
        if not record.engaged:
            self._forget(Scope.of(record.scope))

    def _forget(self, scope: Scope) -> None:
        for job in [job for job in self._rows if job[0] == scope]:
            self._rows.pop(job, None)
            self._running.pop(job, None)
            self._not_before_s.pop(job, None)

    async def engage(self, scope: Scope, operator: str, reason: str) -> risk_pb2.KillSwitchState:
        """Halt the scope and begin to cancel everywhere; answers when all is verified or the call's time is over.

        Engaging it again tries every venue again. While the broker is away it works from memory and is stored as soon
        as that is possible; the answer says so.
        """
        wanted = self._commands.new_kill(scope, operator, reason, tuple(self._names(scope)))
        self._board.hold(wanted)
        fault = ""
        try:
            kill = await self._commands.engage(wanted)
        except MeshError as error:
            kill, fault = wanted, f"not stored yet: {error.message}"
            self._unstored[scope] = wanted
            self._wake.set()
        else:
            self._board.let_go(scope)
        log.warning("kill_switch_engaged", extra={"scope": str(scope), "operator": kill.engaged_by, "fault": fault})
        jobs = [self._start(kill, name) for name in self._names(scope)]
        left_s = remaining_s()
        wait_s = DEFAULT_WAIT_S if left_s is None else max(left_s - RESERVE_S, 0.0)
        if jobs:
            await asyncio.wait(jobs, timeout=wait_s)
        shown = self.shown(kill)
        if fault:
            for row in shown.venues:
                row.message = "; ".join(filter(None, (fault, row.message)))
        return shown

    async def release(self, scope: Scope, operator: str, reason: str) -> risk_pb2.KillSwitchState:
        """Let trading begin again in exactly this scope.

        Raises:
            JournalUnavailable: not released, as far as known.
        """
        state = await self._commands.release(scope, operator, reason)
        if not state.engaged:
            self._unstored.pop(scope, None)
            self._board.let_go(scope)
            self._forget(scope)
        return state

    def shown(self, kill: risk_pb2.KillSwitchState) -> risk_pb2.KillSwitchState:
        """A kill switch with what this router and the others have reached."""
        scope = Scope.of(kill.scope)
        shown = risk_pb2.KillSwitchState()
        stored = self._board.kills.get(scope)
        shown.CopyFrom(stored if stored is not None and stored.engaged else kill)
        rows = {row.venue: row for row in shown.venues}
        for (of, since_ns, venue), row in self._rows.items():
            same = of == scope and since_ns == shown.engaged_time.ToNanoseconds()
            if same and not (venue in rows and rows[venue].verified):
                rows[venue] = row
        del shown.venues[:]
        shown.venues.extend(rows[name] for name in sorted(rows))
        return shown

    def _names(self, scope: Scope) -> list[str]:
        return [link.name for link in self._venues.all() if scope.venue in ("", link.name)]

    # carrying out

    async def run(self) -> None:
        """Go on with every kill switch that is engaged and not verified everywhere, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    self._wake.clear()
                    await self._store_late()
                    unfinished = self._resume()
                    try:
                        async with asyncio.timeout(self._settings.kill_retry_s if unfinished else None):
                            await self._wake.wait()
                    except TimeoutError:
                        continue
            finally:
                self._tasks = None

    async def _store_late(self) -> None:
        """Store what was engaged while the broker was away, and what was reached since."""
        for scope, wanted in list(self._unstored.items()):
            try:
                await self._commands.engage(wanted)
                for row in [row for job, row in self._rows.items() if job[0] == scope]:
                    await self._keep(wanted, row)
            except MeshError as error:
                log.warning("kill_switch_not_stored", extra={"scope": str(scope), "error": error.message})
                return
            self._unstored.pop(scope, None)
            self._board.let_go(scope)

    def _resume(self) -> bool:
        """Start what is not verified; whether anything is."""
        unfinished = bool(self._unstored)
        for kill in self._board.engaged():
            scope = Scope.of(kill.scope)
            verified = {row.venue for row in self.shown(kill).venues if row.verified}
            for name in self._names(scope):
                if name in verified:
                    continue
                unfinished = True
                if self._not_before_s.get(_job(kill, name), 0.0) <= self._clock.monotonic_s():
                    self._start(kill, name)
        return unfinished

    def _start(self, kill: risk_pb2.KillSwitchState, venue: str) -> asyncio.Task[None]:
        job = _job(kill, venue)
        running = self._running.get(job)
        if running is not None and not running.done():
            return running
        assert self._tasks is not None, "run must run"
        task = self._tasks.create_task(
            self._at_venue(kill, venue), name=f"kill-switch/{venue}", context=background_context()
        )
        self._running[job] = task
        return task

    async def _at_venue(self, kill: risk_pb2.KillSwitchState, venue: str) -> None:
        """One attempt at one venue; never raises for what the venue or its gateway does."""
        scope = Scope.of(kill.scope)
        link = self._venues.get(venue)
        try:
            row = await self._ask(link, kill, scope)
        except MeshError as error:
            row = risk_pb2.KillSwitchVenueResult(venue=venue, verified=error.reason in NOT_HERE)
            if not row.verified:
                row.message = f"{error.reason}: {error.message}"
        job = _job(kill, venue)
        self._rows[job] = row
        self._not_before_s[job] = self._clock.monotonic_s() + self._settings.kill_retry_s
        try:
            await self._keep(kill, row)
        except MeshError as error:
            log.warning("kill_switch_not_stored", extra={"venue": venue, "error": error.message})

    async def _ask(
        self, link: VenueLink, kill: risk_pb2.KillSwitchState, scope: Scope
    ) -> risk_pb2.KillSwitchVenueResult:
        request = risk_service_pb2.EngageKillSwitchRequest(
            scope=risk_pb2.RiskScope(venue=link.name, account_id=scope.account_id, symbol=scope.symbol),
            operator=kill.engaged_by,
            reason=kill.reason,
        )
        answer: risk_service_pb2.EngageKillSwitchResponse = await cancel(
            link, link.risk.EngageKillSwitch, request, bounded=False
        )
        row = next((row for row in answer.kill_switch.venues if row.venue == link.name), None)
        return row or risk_pb2.KillSwitchVenueResult(venue=link.name, message="its gateway answered without a result")

    async def _keep(self, kill: risk_pb2.KillSwitchState, row: risk_pb2.KillSwitchVenueResult) -> None:
        """Add what a venue has reached to the stored switch, unless it was released meanwhile."""

        def make(known: risk_pb2.KillSwitchState | None) -> risk_pb2.KillSwitchState | None:
            if known is None or not known.engaged or known.engaged_time != kill.engaged_time:
                return None
            merged = risk_pb2.KillSwitchState()
            merged.CopyFrom(known)
            at = next((one for one in merged.venues if one.venue == row.venue), None)
            if at is None:
                merged.venues.append(row)
                return merged
            if not row.canceled_orders and (at.verified, at.remaining_orders, at.message) == (
                row.verified,
                row.remaining_orders,
                row.message,
            ):
                return None
            canceled = at.canceled_orders + row.canceled_orders
            at.CopyFrom(row)
            at.canceled_orders = canceled
            return merged

        await self._store.change(risk_pb2.KillSwitchState(scope=kill.scope), make)


def _job(kill: risk_pb2.KillSwitchState, venue: str) -> Job:
    return Scope.of(kill.scope), kill.engaged_time.ToNanoseconds(), venue
