"""The risk bucket on JetStream: written by compare-and-set, followed by every router and gateway.

A record's change becomes an event under a subject that holds its version, appended once. The writer appends it before
it answers and before it writes the next version, and whoever follows the bucket appends what is missing, so no change
stays without its event and none has two, whichever process dies where.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from venuemesh.bus import Bus, SubjectTaken
from venuemesh.cancellation import end_if_cancelled
from venuemesh.clock import Clock
from venuemesh.errors import JournalUnavailable, MeshError, Reason, VersionConflict
from venuemesh.follower import StoredMessage
from venuemesh.risk_board import Record, RiskBoard
from venuemesh.risk_scope import Scope
from venuemesh.subjects import RISK_BUCKET, RISK_STREAM, Kind, risk_key, subject
from venuemesh.v1 import event_pb2, risk_pb2

log = logging.getLogger(__name__)

R = TypeVar("R", risk_pb2.ScopedTradingState, risk_pb2.RiskLimit, risk_pb2.KillSwitchState)

WRITE_TRIES = 8
RETRY_WAIT_S = 0.25
ALL_KEYS = f"$KV.{RISK_BUCKET}.>"
STATE, LIMIT, KILL = "state", "limit", "kill"
_PAYLOADS = {STATE: "trading_state", LIMIT: "limit", KILL: "kill_switch"}
_TYPES: dict[str, type[Any]] = {
    STATE: risk_pb2.ScopedTradingState,
    LIMIT: risk_pb2.RiskLimit,
    KILL: risk_pb2.KillSwitchState,
}


def _kind(record: Record) -> str:
    return next(kind for kind, cls in _TYPES.items() if isinstance(record, cls))


def _parts(record: Record) -> tuple[str, ...]:
    scope = Scope.of(record.scope)
    more = (risk_pb2.RiskLimitType.Name(record.limit_type),) if isinstance(record, risk_pb2.RiskLimit) else ()
    return (*scope.parts, *more)


def key_of(record: Record) -> str:
    """Subject of a record in the bucket, such as `$KV.VENUEMESH_RISK.state.lighter.-.-`."""
    return risk_key(_kind(record), *_parts(record))


class RiskStore:
    """Reads, writes and follows the records. `board` holds what was read."""

    def __init__(self, bus: Bus, clock: Clock, board: RiskBoard) -> None:
        self.board = board
        self.ready = asyncio.Event()
        """Set once the bucket was read to its end."""
        self._bus = bus
        self._clock = clock

    async def load(self) -> None:
        """Read the whole bucket onto the board.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        self._require_connection()
        async with aclosing(self._bus.replay(RISK_STREAM, [ALL_KEYS])) as stored:
            async for message in stored:
                if (record := _decode(message)) is not None:
                    self.board.apply(record)
        self.ready.set()

    def _require_connection(self) -> None:
        # At once: what halts and cancels must not wait for a broker that is known to be away.
        if not self._bus.connected:
            raise JournalUnavailable("NATS is not connected", retry_after_s=1.0)

    async def run(self) -> None:
        """Follow the bucket until cancelled; while the broker is away the board stays as it was."""
        after = 0
        while True:
            try:
                async with self._bus.follow(RISK_STREAM, [ALL_KEYS], after=after) as follower:
                    if not follower.backlog:
                        self.ready.set()
                    async for message in follower:
                        await self._take(message)
                        after = message.sequence
                        if not message.pending:
                            self.ready.set()
            except JournalUnavailable as error:
                end_if_cancelled()
                log.info("risk_bucket_away", extra={"error": error.message})
                await asyncio.sleep(RETRY_WAIT_S)

    async def _take(self, message: StoredMessage) -> None:
        record = _decode(message)
        if record is None:
            return
        self.board.apply(record)
        try:
            await self.announce(record)
        except JournalUnavailable as error:
            # Whoever writes the next version, or follows from the start, does it.
            log.warning("risk_event_not_stored", extra={"error": error.message})

    async def read(self, wanted: R) -> tuple[R | None, int]:
        """The record in force with the scope and type of `wanted`, and its revision; None and 0 when there is none.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        self._require_connection()
        stored = await self._bus.last(RISK_STREAM, key_of(wanted))
        if stored is None:
            return None, 0
        record = _decode(stored)
        if record is None:
            raise MeshError("a record of the risk bucket cannot be read", reason=Reason.INTERNAL)
        return record, stored.sequence  # type: ignore[return-value]

    async def change(self, wanted: R, make: Callable[[R | None], R | None]) -> R:
        """Write the successor that `make` gives for the record in force, durably; returns the record in force then.

        Args:
            wanted: names the scope and the type.
            make: the next record, or None when all is as it should be, with `wanted` returned where there is no record
                at all; may raise to refuse. It is asked again when another writer was faster.
        Raises:
            VersionConflict: other writers were faster every time. JournalUnavailable: not written, as far as known.
        """
        for _ in range(WRITE_TRIES):
            known, revision = await self.read(wanted)
            if known is not None:
                await self.announce(known)
            following = make(known)
            if following is None:
                if known is not None:
                    self.board.apply(known)
                return wanted if known is None else known
            following.version = (known.version if known is not None else 0) + 1
            try:
                await self._bus.append_after(key_of(following), following.SerializeToString(), revision)
            except SubjectTaken:
                continue
            self.board.apply(following)
            await self._announce_soon(following)
            return following
        raise VersionConflict(f"other writers changed {_kind(wanted)} of {Scope.of(wanted.scope)} all the time")

    async def _announce_soon(self, record: Record) -> None:
        try:
            await self.announce(record)
        except JournalUnavailable as error:
            # It is in force already. Every follower of the bucket tries too.
            log.warning("risk_event_not_stored", extra={"error": error.message})

    async def announce(self, record: Record) -> None:
        """Append the record's event unless it is there.

        Raises:
            JournalUnavailable: the broker did not confirm.
        """
        kind, scope = _kind(record), Scope.of(record.scope)
        # The symbol's place holds the kind, as in the events of dead-man's switches; scope and version follow.
        name = subject(
            Kind.RISK, scope.venue, scope.account_id, kind, scope.symbol, *_parts(record)[3:], str(record.version)
        )
        now_ns = self._clock.now_ns()
        event = event_pb2.Event(
            event_id=name,
            venue=scope.venue,
            account_id=scope.account_id,
            symbol=scope.symbol,
            risk_event=risk_pb2.RiskEvent(
                scope=record.scope,
                message=_words(record),
                **{_PAYLOADS[kind]: record},  # type: ignore[arg-type]
            ),
        )
        event.risk_event.event_time.FromNanoseconds(now_ns)
        event.received_time.FromNanoseconds(now_ns)
        event.published_time.FromNanoseconds(now_ns)
        try:
            await self._bus.append_once(name, event.SerializeToString())
        except SubjectTaken:
            return


def _decode(message: StoredMessage) -> Record | None:
    kind = message.subject.split(".")[2]
    if kind not in _TYPES or not message.payload:
        # A newer release's, or deleted by hand with a tool of the broker.
        return None
    try:
        record: Record = _TYPES[kind].FromString(message.payload)
    except DecodeError:
        log.error("risk_record_unreadable", extra={"subject": message.subject})
        return None
    return record


def _words(record: Record) -> str:
    """What happened, for people."""
    scope = Scope.of(record.scope)
    match record:
        case risk_pb2.ScopedTradingState():
            word = risk_pb2.TradingState.Name(record.state).removeprefix("TRADING_STATE_")
            return f"{scope} set to {word} by {record.set_by}: {record.reason}"
        case risk_pb2.KillSwitchState():
            done = "engaged" if record.engaged else "released"
            return f"kill switch of {scope} {done}; {record.engaged_by}: {record.reason}"
    word = risk_pb2.RiskLimitType.Name(record.limit_type).removeprefix("RISK_LIMIT_TYPE_")
    what = f"set to {record.limit}" if record.limit else "removed"
    return f"{word} of {scope} {what} by {record.set_by}: {record.reason}"
