"""Dead-man's switches: an account's orders are cancelled unless its caller says in time that it is alive.

Where the venue has such a switch it is set there, so that it works without the mesh; the gateway's own timer runs
beside it and cancels what the venue left. Where the venue has none or refuses, the timer alone does it, and the answer
says so. State is durable before it is told: a gateway that was away while a deadline passed fires when it is back.

One switch per account; its id names both. Bounds: leases of `MIN_LEASE_S` to `MAX_LEASE_S`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, MeshError, NotFound, PreconditionFailed, Reason, Sent, VenueRejected
from venuemesh.gateway.account import Account
from venuemesh.gateway.alerts import CRITICAL, SWITCH_FIRED, SWITCH_LEFT_ORDERS, Alerts
from venuemesh.gateway.attempts import duration
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.rules import TRIGGER_TYPES
from venuemesh.gateway.venue import Refused
from venuemesh.gateway.working import WorkingOrders
from venuemesh.subjects import MESH_STREAM, Kind, subject
from venuemesh.v1 import event_pb2, order_pb2, risk_pb2, venue_pb2

log = logging.getLogger(__name__)

MIN_LEASE_S = 1.0
MAX_LEASE_S = 3_600.0
STORE_RETRY_S = 1.0
NAME = "dead_mans_switch"

NATIVE, EMULATED = venue_pb2.PROVISION_NATIVE, venue_pb2.PROVISION_EMULATED
ARMED = risk_pb2.DEAD_MANS_SWITCH_STATE_ARMED
DISARMED = risk_pb2.DEAD_MANS_SWITCH_STATE_DISARMED
FIRED = risk_pb2.DEAD_MANS_SWITCH_STATE_FIRED


def switch_id_of(venue: str, account_id: str) -> str:
    """The id of an account's one switch; it tells a router which venue to ask."""
    return f"{venue}/{account_id}"


@dataclass(slots=True, kw_only=True)
class _Switch:
    """A switch and when it fires, by the monotonic clock."""

    state: risk_pb2.DeadMansSwitch
    due_s: float
    fired: bool = False
    """Orders were cancelled; only the record of it is not stored yet."""


class SwitchStore:
    """The last state of each account's switch, in the mesh's event stream."""

    def __init__(self, bus: Bus, venue: str, clock: Clock) -> None:
        self._bus = bus
        self._venue = venue
        self._clock = clock

    async def save(self, switch: risk_pb2.DeadMansSwitch, message: str) -> None:
        """Store a state; returns when it is durable.

        Raises:
            JournalUnavailable: the broker did not confirm.
        """
        now_ns = self._clock.now_ns()
        event = event_pb2.Event(
            event_id=f"{switch.switch_id}/{NAME}/{uuid.uuid4().hex}",
            venue=self._venue,
            account_id=switch.account_id,
            received_time=timestamp(now_ns),
            published_time=timestamp(now_ns),
            risk_event=risk_pb2.RiskEvent(
                scope=risk_pb2.RiskScope(venue=self._venue, account_id=switch.account_id),
                dead_mans_switch=switch,
                message=message,
                event_time=timestamp(now_ns),
            ),
        )
        await self._bus.publish(self._subject(switch.account_id), event.SerializeToString(), message_id=event.event_id)

    async def load(self, account_id: str) -> risk_pb2.DeadMansSwitch | None:
        """The last state stored; None when there never was a switch."""
        stored = await self._bus.last(MESH_STREAM, self._subject(account_id))
        return event_pb2.Event.FromString(stored.payload).risk_event.dead_mans_switch if stored else None

    def _subject(self, account_id: str) -> str:
        return subject(Kind.RISK, self._venue, account_id, NAME)


class DeadMansSwitches:
    """The switches of all accounts of a gateway. One task runs `run`."""

    def __init__(self, desk: Desk, working: WorkingOrders, store: SwitchStore, *, clock: Clock, alerts: Alerts) -> None:
        self._desk = desk
        self._venue = desk.venue
        self._working = working
        self._store = store
        self._clock = clock
        self._alerts = alerts
        self._switches: dict[str, _Switch] = {}
        self._locks: dict[str, asyncio.Lock] = {name: asyncio.Lock() for name in desk.accounts}
        self._wake = asyncio.Event()

    @property
    def armed(self) -> Mapping[str, risk_pb2.DeadMansSwitch]:
        """Switches that are armed, by account."""
        return {name: row.state for name, row in self._switches.items()}

    # arming

    async def arm(self, account_id: str, lease_s: float) -> risk_pb2.DeadMansSwitch:
        """Arm the account's switch, or arm it anew with another lease.

        Raises:
            InvalidRequest: the lease is out of bounds. AccountNotFound: no such account.
            JournalUnavailable: not armed, for it would not outlive this process.
        """
        account = self._desk.account(account_id)
        if not MIN_LEASE_S <= lease_s <= MAX_LEASE_S:
            raise InvalidRequest(
                f"lease: {lease_s:g}s is not within {MIN_LEASE_S:g}s to {MAX_LEASE_S:g}s", field="lease"
            )
        async with self._locks[account.account_id]:
            before = self._switches.get(account.account_id)
            switch = self._new(account.account_id, lease_s, self._clock.now_ns())
            # Stored as the mesh's own first: whatever happens next, it fires.
            await self._store.save(switch, "armed")
            self._take(switch)
            if self._venue.capabilities.dead_mans_switch == NATIVE:
                await self._arm_natively(switch, before)
            log.info(
                "dead_mans_switch_armed",
                extra={"account_id": account_id, "lease_s": lease_s, "native": switch.venues[0].provision == NATIVE},
            )
            return switch

    def _new(self, account_id: str, lease_s: float, now_ns: int) -> risk_pb2.DeadMansSwitch:
        row = risk_pb2.DeadMansSwitchVenue(venue=self._venue.name, provision=EMULATED, cancels_stops=False)
        return risk_pb2.DeadMansSwitch(
            switch_id=switch_id_of(self._venue.name, account_id),
            account_id=account_id,
            deadline=timestamp(now_ns + int(lease_s * 1e9)),
            venues=[row],
            lease=duration(lease_s),
            state=ARMED,
        )

    async def _arm_natively(self, switch: risk_pb2.DeadMansSwitch, before: _Switch | None) -> None:
        """Set the venue's own switch too; where it will not, the gateway's stands alone and says why."""
        row = switch.venues[0]
        still_there = before is not None and self._at_venue(before.state)
        refusal = await self._schedule(switch.account_id, switch.deadline.ToNanoseconds())
        if refusal is not None:
            row.message = f"performed by the gateway: {refusal.message}"
            if refusal.sent is Sent.MAYBE or still_there:
                # It may be set there all the same, or an earlier deadline is, and would then cancel stops too.
                row.cancels_stops = self._venue.capabilities.dead_mans_switch_cancels_stops
        else:
            row.provision = NATIVE
            row.cancels_stops = self._venue.capabilities.dead_mans_switch_cancels_stops
        try:
            await self._store.save(switch, "armed")
        except MeshError as error:
            # What is stored fires as well; it only does not know that the venue has it too.
            log.warning("dead_mans_switch_not_stored", extra={"error": error.message})

    async def _schedule(self, account_id: str, at_ns: int | None) -> MeshError | None:
        """Set or take back the venue's switch; what kept it from being done."""
        try:
            refused = await self._venue.schedule_cancel(account_id, at_ns)
        except MeshError as error:
            return error
        if isinstance(refused, Refused):
            return VenueRejected(refused.text, reason=refused.reason, sent=Sent.YES)
        return None

    def _take(self, switch: risk_pb2.DeadMansSwitch) -> None:
        left_s = (switch.deadline.ToNanoseconds() - self._clock.now_ns()) / 1e9
        self._switches[switch.account_id] = _Switch(state=switch, due_s=self._clock.monotonic_s() + left_s)
        self._wake.set()

    async def renew(self, switch_id: str) -> risk_pb2.DeadMansSwitch:
        """Move the deadline on by the lease. Where that fails the old deadline stands: call again.

        Raises:
            NotFound: no such switch. PreconditionFailed: it has fired or was disarmed: arm it anew.
            VenueRejected, OutcomeUnknown, JournalUnavailable: the deadline is as it was.
        """
        account_id = self._account_of(switch_id)
        async with self._locks[account_id]:
            known = self._armed(account_id, switch_id)
            renewed = risk_pb2.DeadMansSwitch()
            renewed.CopyFrom(known)
            deadline_ns = self._clock.now_ns() + known.lease.ToNanoseconds()
            renewed.deadline.CopyFrom(timestamp(deadline_ns))
            if self._at_venue(known):
                failure = await self._schedule(account_id, deadline_ns)
                if failure is not None:
                    raise failure
            await self._store.save(renewed, "renewed")
            self._take(renewed)
            return renewed

    def _at_venue(self, switch: risk_pb2.DeadMansSwitch) -> bool:
        """Whether the venue has it, or may have it."""
        row = switch.venues[0]
        return row.provision == NATIVE or row.cancels_stops

    async def disarm(self, switch_id: str) -> bool:
        """Take the switch away; whether it was armed.

        Raises:
            NotFound: no such account. VenueRejected, OutcomeUnknown, JournalUnavailable: it is still armed.
        """
        account_id = self._account_of(switch_id)
        async with self._locks[account_id]:
            known = self._switches.get(account_id)
            if known is None:
                return False
            if self._at_venue(known.state):
                failure = await self._schedule(account_id, None)
                if failure is not None:
                    raise failure
            disarmed = risk_pb2.DeadMansSwitch()
            disarmed.CopyFrom(known.state)
            disarmed.state = DISARMED
            await self._store.save(disarmed, "disarmed")
            del self._switches[account_id]
            return True

    def _account_of(self, switch_id: str) -> str:
        venue, _, account_id = switch_id.partition("/")
        if venue != self._venue.name or account_id not in self._desk.accounts:
            raise NotFound(
                f"switch_id: {switch_id[:80]!r} is no switch of {self._venue.name}",
                reason=Reason.ACCOUNT_NOT_FOUND,
                field="switch_id",
            )
        return account_id

    def _armed(self, account_id: str, switch_id: str) -> risk_pb2.DeadMansSwitch:
        known = self._switches.get(account_id)
        if known is None or known.fired or known.due_s <= self._clock.monotonic_s():
            raise PreconditionFailed(
                f"switch {switch_id} is not armed: it has fired, was disarmed or never was; arm it anew",
                reason=Reason.STATE_VERSION_CONFLICT,
                field="switch_id",
            )
        return known.state

    # firing

    async def recover(self) -> None:
        """Take up the switches that were armed when the last process ended.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        for account_id in self._desk.accounts:
            switch = await self._store.load(account_id)
            if switch is not None and switch.state == ARMED:
                self._take(switch)
                log.info("dead_mans_switch_recovered", extra={"account_id": account_id})

    async def run(self) -> None:
        """Fire what is due, until cancelled."""
        while True:
            self._wake.clear()
            await self.fire_due()
            due_s = min((row.due_s for row in self._switches.values()), default=None)
            try:
                async with asyncio.timeout(None if due_s is None else max(due_s - self._clock.monotonic_s(), 0.001)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def fire_due(self) -> None:
        """Fire every switch whose deadline has passed."""
        for account_id in list(self._switches):
            async with self._locks[account_id]:
                row = self._switches.get(account_id)
                if row is not None and row.due_s <= self._clock.monotonic_s():
                    await self._fire(self._desk.account(account_id), row)

    async def _fire(self, account: Account, row: _Switch) -> None:
        if not row.fired:
            await self._cancel_orders(account, native=row.state.venues[0].provision == NATIVE)
            row.fired = True
        fired = risk_pb2.DeadMansSwitch()
        fired.CopyFrom(row.state)
        fired.state = FIRED
        try:
            # Only now: a process that ends in between fires once more, which cancels nothing new.
            await self._store.save(fired, "fired")
        except MeshError as error:
            log.warning("dead_mans_switch_not_stored", extra={"error": error.message})
            row.due_s = self._clock.monotonic_s() + STORE_RETRY_S
            return
        del self._switches[account.account_id]

    async def _cancel_orders(self, account: Account, *, native: bool) -> None:
        """Cancel what works or may work; stops that protect a position stay, unless the venue's switch took them."""
        name = account.account_id
        chosen = [order for order in account.open_orders() if native or not protects(order)]
        message = f"{name}: no sign of life, {len(chosen)} orders are cancelled"
        self._alerts.note(SWITCH_FIRED, message, severity=CRITICAL, account_id=name)
        await asyncio.gather(*(self._working.cancel_order(account, order) for order in chosen))
        left = [order.order_id for order in chosen if not _ended(account, order)]
        if left:
            # Each stays a pending cancel: it is sent again until the venue has spoken.
            message = f"{name}: {len(left)} orders are not confirmed as cancelled yet: {', '.join(left[:5])}"
            self._alerts.note(SWITCH_LEFT_ORDERS, message, severity=CRITICAL, account_id=name)


def protects(order: OrderState) -> bool:
    """Whether an order only makes a position smaller when its trigger is reached: a stop somebody relies on."""
    terms = order.terms
    return terms.order_type in TRIGGER_TYPES and order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY in terms.instructions


def _ended(account: Account, order: OrderState) -> bool:
    now = account.order(order.order_id)
    return now is None or now.terminal
