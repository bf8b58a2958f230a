"""Bytes of `/exchange` answers into typed results, one per element of the action.

Business refusals come as HTTP 200, either for the whole action (`status: err`) or per element inside
`statuses`; each is a value here. An element of a shape never seen becomes `UnknownStatus`, so that it does
not take its neighbours with it. Source: venue reference section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import msgspec

from hypercore.codec import decoder_of, violation
from hypercore.refusals import RefusalMeaning, classify_error
from venuemesh.errors import ProtocolViolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Resting:
    """The order is in the book; a partly filled GTC may answer this too, its fill comes by stream."""

    oid: int
    cloid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """Filled now, wholly or (IOC) in part; `total_sz` base units, `avg_px` quote per base."""

    oid: int
    total_sz: Decimal
    avg_px: Decimal
    cloid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A trigger child: `waitingForFill` (of its parent) or `waitingForTrigger`. It carries no oid."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The element did what it asked (cancels answer the bare string `success`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A TWAP has started."""

    twap_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The venue refused this element, or the whole action; `meaning.definitive` says what that proves."""

    meaning: RefusalMeaning


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownStatus:
    """An element of a shape not in the reference: its outcome is unknown until the venue is asked."""

    raw: str


Status: TypeAlias = Resting | Filled | Waiting | Succeeded | Running | Refused | UnknownStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """`status: ok`. `statuses` has one entry per element for order, cancel and TWAP actions, else none.

    `kind` is the venue's `response.type`; `raw_data` is its `data` where no statuses were read from it.
    """

    kind: str
    statuses: tuple[Status, ...] = ()
    raw_data: bytes = b""


ExchangeAnswer: TypeAlias = Accepted | Refused


class _Envelope(msgspec.Struct, frozen=True):
    status: str
    response: msgspec.Raw


class _Body(msgspec.Struct, frozen=True):
    type: str
    data: msgspec.Raw = msgspec.Raw()


class _Statuses(msgspec.Struct, frozen=True):
    statuses: tuple[msgspec.Raw, ...]


class _SingleStatus(msgspec.Struct, frozen=True):
    status: msgspec.Raw


class _Resting(msgspec.Struct, frozen=True):
    oid: int
    cloid: str | None = None


class _Filled(msgspec.Struct, frozen=True, rename="camel"):
    oid: int
    total_sz: Decimal
    avg_px: Decimal
    cloid: str | None = None


class _Running(msgspec.Struct, frozen=True, rename="camel"):
    twap_id: int


class _Element(msgspec.Struct, frozen=True):
    resting: _Resting | None = None
    filled: _Filled | None = None
    running: _Running | None = None
    error: str | None = None


_envelope = decoder_of("exchange answer", _Envelope)
_body = decoder_of("exchange answer", _Body)
_text = decoder_of("exchange refusal", str)
_statuses = decoder_of("exchange statuses", _Statuses)
_single = decoder_of("exchange status", _SingleStatus)
_element = decoder_of("exchange status element", str | _Element)

_BATCH_KINDS = frozenset({"order", "cancel"})
_SINGLE_KINDS = frozenset({"twapOrder", "twapCancel"})
_WAITING = frozenset({"waitingForFill", "waitingForTrigger"})


def parse_exchange_answer(raw: bytes | msgspec.Raw) -> ExchangeAnswer:
    """The typed answer to one action.

    Raises:
        ProtocolViolation: unreadable; the action's outcome is then unknown.
    """
    envelope: _Envelope = _envelope.decode(raw)
    if envelope.status == "err":
        return Refused(meaning=classify_error(_text.decode(envelope.response)))
    if envelope.status != "ok":
        raise violation("exchange answer", bytes(raw), f"status {envelope.status!r}")
    body: _Body = _body.decode(envelope.response)
    if body.type in _BATCH_KINDS:
        found: _Statuses = _statuses.decode(body.data)
        return Accepted(kind=body.type, statuses=tuple(_parse_status(element) for element in found.statuses))
    if body.type in _SINGLE_KINDS:
        single: _SingleStatus = _single.decode(body.data)
        return Accepted(kind=body.type, statuses=(_parse_status(single.status),))
    return Accepted(kind=body.type, raw_data=bytes(body.data))


def _parse_status(raw: msgspec.Raw) -> Status:
    try:
        element: str | _Element = _element.decode(raw)
    except ProtocolViolation:
        return UnknownStatus(raw=bytes(raw).decode("utf-8", errors="replace"))
    if isinstance(element, str):
        if element == "success":
            return Succeeded()
        if element in _WAITING:
            return Waiting(what=element)
    elif element.error is not None:
        return Refused(meaning=classify_error(element.error))
    elif element.filled is not None:
        fill = element.filled
        return Filled(oid=fill.oid, total_sz=fill.total_sz, avg_px=fill.avg_px, cloid=fill.cloid)
    elif element.resting is not None:
        return Resting(oid=element.resting.oid, cloid=element.resting.cloid)
    elif element.running is not None:
        return Running(twap_id=element.running.twap_id)
    return UnknownStatus(raw=bytes(raw).decode("utf-8", errors="replace"))


def statuses_for(answer: Accepted, count: int) -> tuple[Status, ...]:
    """One status per element of an action that had `count` elements.

    When one order fails pre-validation the venue may answer a single error for the whole batch; it is then
    given to every element.

    Raises:
        ProtocolViolation: the lengths do not fit, so nobody can tell which status belongs to which element.
    """
    statuses = answer.statuses
    if len(statuses) == count:
        return statuses
    if len(statuses) == 1 and isinstance(statuses[0], Refused):
        return statuses * count
    raise ProtocolViolation(
        f"{answer.kind} answer has {len(statuses)} statuses for {count} elements",
        metadata={"payload": repr(statuses)[:2_000]},
    )
