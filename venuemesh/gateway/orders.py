"""The order state machine: which facts change an order, and into what. Pure.

`apply(state, fact, now_ns)` is the whole of it. A fact either changes the order (`Change`), changes nothing worth a
report (None), or contradicts what is proved (`IllegalTransition`, which the desk records and answers by asking the
venue). Filled quantity comes from fills alone: an order that the venue calls done stays working here until its fills
add up to what the venue says was filled (`ending`).

Invariants: while working, filled + leaves = quantity; when terminal, leaves = 0; a terminal state is only left when a
fill proves it wrong, or when the venue shows an order that was held never to have reached it. REJECTED is proved never
to have been live: an order that the venue refuses later, as it may when a trigger fires, ends CANCELED with the reason.
A trigger only ever goes forward, and a fill proves that it has fired.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import assert_never

from venuemesh.errors import Reason
from venuemesh.gateway.facts import (
    Accepted,
    Armed,
    CancelFailed,
    CancelRequested,
    Ended,
    Ending,
    Fact,
    Filled,
    FillsComplete,
    OperatorActed,
    OutcomeLost,
    ProvedAbsent,
    RejectedByVenue,
    ReplaceConfirmed,
    ReplaceFailed,
    ReplaceRequested,
    Triggered,
    Unrecognised,
)
from venuemesh.gateway.order_state import LIVE, TERMINAL, UNANSWERED, Change, OrderState
from venuemesh.money import EXACT
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb

__all__ = [
    "LIVE",
    "TERMINAL",
    "UNANSWERED",
    "Change",
    "IllegalTransition",
    "OrderState",
    "apply",
    "held_absent",
    "reason_number",
]

ZERO = Decimal(0)


class IllegalTransition(Exception):
    """The fact contradicts what is proved about the order."""


def apply(state: OrderState, fact: Fact, now_ns: int) -> Change | None:
    """The order after `fact`, or None when it tells nothing new.

    Raises:
        IllegalTransition: the fact contradicts proof, such as a refusal of an order that has fills.
    """
    match fact:
        case Accepted():
            return _accepted(state, fact, now_ns)
        case Filled():
            return _filled(state, fact, now_ns)
        case Ended():
            return _ended(state, fact, now_ns)
        case RejectedByVenue():
            return _rejected(state, fact, now_ns)
        case OutcomeLost():
            return _outcome_lost(state, fact, now_ns)
        case ProvedAbsent():
            return _proved_absent(state, fact, now_ns)
        case CancelRequested():
            return _flag(state, now_ns, pb.EXECUTION_TYPE_PENDING_CANCEL, pb.ORIGIN_CLIENT, pending_cancel=True)
        case CancelFailed():
            return _flag(
                state, now_ns, pb.EXECUTION_TYPE_CANCEL_REJECTED, pb.ORIGIN_VENUE, fact.text, pending_cancel=False
            )
        case ReplaceRequested():
            return _flag(state, now_ns, pb.EXECUTION_TYPE_PENDING_REPLACE, pb.ORIGIN_CLIENT, pending_replace=True)
        case ReplaceConfirmed():
            return _replaced(state, fact, now_ns)
        case ReplaceFailed():
            return _replace_failed(state, fact, now_ns)
        case Triggered():
            return _triggered(state, fact, now_ns)
        case Armed():
            return _armed(state, now_ns)
        case FillsComplete():
            return _fills_complete(state, now_ns)
        case Unrecognised():
            return _unrecognised(state, fact, now_ns)
        case OperatorActed():
            return _operator_acted(state, fact, now_ns)
        case _ as unreachable:
            assert_never(unreachable)


def _changed(state: OrderState, now_ns: int, venue_time_ns: int = 0, **changes: object) -> OrderState:
    return replace(
        state,
        version=state.version + 1,
        updated_ns=now_ns,
        venue_time_ns=venue_time_ns or state.venue_time_ns,
        **changes,  # type: ignore[arg-type]
    )


def _accepted(state: OrderState, fact: Accepted, now_ns: int) -> Change | None:
    if state.status == pb.ORDER_STATUS_REJECTED:
        return _revived(state, fact, now_ns)
    ids = _with_id(state, fact.venue_order_id)
    trigger_state = _further(state, fact.trigger_state)
    if state.status not in UNANSWERED:
        # Known to be live or done: only the id and the trigger can be news.
        if ids == state.venue_order_ids and trigger_state == state.trigger_state:
            return None
        told = _changed(state, now_ns, fact.venue_time_ns, venue_order_ids=ids, trigger_state=trigger_state)
        known = _drop_superseded_ending(told)
        return Change(state=known, execution_type=pb.EXECUTION_TYPE_ORDER_STATUS, origin=fact.origin)
    resolved = state.status == pb.ORDER_STATUS_UNCERTAIN
    after = _changed(
        state,
        now_ns,
        fact.venue_time_ns,
        status=pb.ORDER_STATUS_PARTIALLY_FILLED if state.filled else pb.ORDER_STATUS_NEW,
        venue_order_ids=ids,
        trigger_state=trigger_state,
        venue_status_text="",
        uncertain_since_ns=0,
    )
    return Change(
        state=after,
        execution_type=pb.EXECUTION_TYPE_RESOLVED if resolved else pb.EXECUTION_TYPE_NEW,
        origin=fact.origin,
    )


def _revived(state: OrderState, fact: Accepted, now_ns: int) -> Change:
    """The venue shows what was held never to have reached it: our conclusion was wrong, its own refusal is not."""
    if not held_absent(state):
        raise IllegalTransition(f"accepted as {fact.venue_order_id} after the venue had refused it")
    after = _changed(
        state,
        now_ns,
        fact.venue_time_ns,
        status=pb.ORDER_STATUS_NEW,
        venue_order_ids=_with_id(state, fact.venue_order_id),
        reject=None,
    )
    after = replace(after, trigger_state=_further(after, fact.trigger_state))
    text = f"at the venue as {fact.venue_order_id} after it was held never to have reached it"
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_RESTATED, origin=fact.origin, text=text)


def held_absent(state: OrderState) -> bool:
    """Whether it is REJECTED by our conclusion that it never reached the venue, and not by the venue's word."""
    never = reason_number(Reason.NEVER_REACHED_VENUE)
    return state.status == pb.ORDER_STATUS_REJECTED and state.reject is not None and state.reject.reason == never


def _further(state: OrderState, told: pb.TriggerState.ValueType) -> pb.TriggerState.ValueType:
    """Where its trigger stands, by what is known and told: the states are numbered in the order of a life."""
    if state.terminal or state.trigger_state == pb.TRIGGER_STATE_UNSPECIFIED:
        return state.trigger_state
    return max(state.trigger_state, told)


def _filled(state: OrderState, fact: Filled, now_ns: int) -> Change | None:
    fill = fact.fill
    if fill.execution_id in state.execution_ids:
        return None
    filled = EXACT.add(state.filled, fill.quantity)
    text = ""
    quantity = state.quantity
    if fill.venue_order_id in state.venue_order_ids[:-1] and not state.pending_replace:
        # A late fill of a life that was amended away takes nothing off the life that goes on.
        quantity = EXACT.add(quantity, fill.quantity)
    if filled > quantity:
        text = f"venue filled {filled} of {quantity}; its word is taken"
        quantity = filled
    if state.status == pb.ORDER_STATUS_REJECTED:
        text = "filled after it was held to be rejected"
    after = _changed(
        state,
        now_ns,
        fill.venue_time_ns,
        status=_status_after_fill(state, filled, quantity),
        quantity=quantity,
        filled=filled,
        notional=EXACT.add(state.notional, EXACT.multiply(fill.quantity, fill.price)),
        fees={**state.fees, fill.fee_asset: EXACT.add(state.fees.get(fill.fee_asset, ZERO), fill.fee)},
        execution_ids=state.execution_ids | {fill.execution_id},
        venue_order_ids=_with_id(state, fill.venue_order_id),
        filled_by_life={
            **state.filled_by_life,
            fill.venue_order_id: EXACT.add(state.filled_by_life.get(fill.venue_order_id, ZERO), fill.quantity),
        },
        uncertain_since_ns=0,
        reject=None if state.status == pb.ORDER_STATUS_REJECTED else state.reject,
        trigger_state=state.trigger_state and pb.TRIGGER_STATE_TRIGGERED,
    )
    if after.status == pb.ORDER_STATUS_FILLED:
        after = replace(after, reject=None)
    after = _settle_ending(_drop_superseded_ending(after))
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_TRADE, origin=pb.ORIGIN_VENUE, text=text)


def _status_after_fill(state: OrderState, filled: Decimal, quantity: Decimal) -> pb.OrderStatus.ValueType:
    if filled == quantity and not state.pending_replace:
        # While an amendment is under way nobody can tell how much there is to fill.
        return pb.ORDER_STATUS_FILLED
    if state.status in (pb.ORDER_STATUS_CANCELED, pb.ORDER_STATUS_EXPIRED):
        # The last fill overtaken by the end of the order: it stays ended, with more filled.
        return state.status
    return pb.ORDER_STATUS_PARTIALLY_FILLED


def _settle_ending(state: OrderState) -> OrderState:
    """End an order whose end the venue told before its last fill came."""
    ending = state.ending
    if state.terminal:
        return replace(state, ending=None, pending_cancel=False, pending_replace=False)
    if ending is None or state.pending_replace:
        return state
    full = ending.status == pb.ORDER_STATUS_FILLED
    due = (
        state.quantity_in(ending.venue_order_id) if full and ending.filled_quantity is None else ending.filled_quantity
    )
    if due is not None and state.filled_in(ending.venue_order_id) < due:
        return state
    status = pb.ORDER_STATUS_FILLED if state.filled == state.quantity else ending.status
    return replace(
        state,
        status=status,
        # Filled for less than we asked, by the venue's word: it shrank with the position, or behind our back.
        quantity=state.filled if full else state.quantity,
        reject=_why(ending) if status in (pb.ORDER_STATUS_CANCELED, pb.ORDER_STATUS_EXPIRED) else None,
        ending=None,
        pending_cancel=False,
        pending_replace=False,
    )


def _why(ending: Ending) -> pb.Reject | None:
    if ending.reason is None:
        return None
    return pb.Reject(reason=reason_number(ending.reason), message=ending.text, venue_text=ending.text)


def _drop_superseded_ending(state: OrderState) -> OrderState:
    """The end of a life that was amended away is not the end of the order."""
    ended = state.ending.venue_order_id if state.ending else None
    return replace(state, ending=None) if ended in state.venue_order_ids[:-1] else state


def _ended(state: OrderState, fact: Ended, now_ns: int) -> Change | None:
    ending = fact.ending
    if state.terminal:
        if state.status == pb.ORDER_STATUS_REJECTED and ending.filled_quantity:
            raise IllegalTransition(f"{ending.text} with {ending.filled_quantity} filled after it was rejected")
        return None
    if ending.venue_order_id in state.venue_order_ids[:-1] or ending == state.ending:
        # Known already, or an amendment ended that life of it and the order goes on under its newer id.
        return None
    ids = _with_id(state, ending.venue_order_id or "")
    waiting = _changed(
        state,
        now_ns,
        fact.venue_time_ns,
        ending=ending,
        venue_order_ids=ids,
        venue_status_text="",
        uncertain_since_ns=0,
    )
    if waiting.status in UNANSWERED:
        live = pb.ORDER_STATUS_PARTIALLY_FILLED if state.filled else pb.ORDER_STATUS_NEW
        waiting = replace(waiting, status=live)
    after = _settle_ending(waiting)
    if after.terminal:
        kinds = {
            pb.ORDER_STATUS_CANCELED: pb.EXECUTION_TYPE_CANCELED,
            pb.ORDER_STATUS_EXPIRED: pb.EXECUTION_TYPE_EXPIRED,
        }
        kind = kinds.get(after.status, pb.EXECUTION_TYPE_ORDER_STATUS)
        return Change(state=after, execution_type=kind, origin=fact.origin, text=ending.text)
    # Its last fills are on their way.
    return Change(
        state=after, execution_type=pb.EXECUTION_TYPE_ORDER_STATUS, origin=fact.origin, text=f"{ending.text}, fills due"
    )


def _rejected(state: OrderState, fact: RejectedByVenue, now_ns: int) -> Change | None:
    if state.status == pb.ORDER_STATUS_REJECTED:
        return None
    if state.status not in UNANSWERED or state.filled or state.venue_order_ids:
        return _refused_when_live(state, fact, now_ns)
    after = _changed(
        state,
        now_ns,
        fact.venue_time_ns,
        status=pb.ORDER_STATUS_REJECTED,
        reject=pb.Reject(reason=reason_number(fact.reason), message=fact.text, venue_text=fact.venue_text),
        pending_cancel=False,
        pending_replace=False,
        uncertain_since_ns=0,
    )
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_REJECTED, origin=fact.origin, text=fact.text)


def _refused_when_live(state: OrderState, fact: RejectedByVenue, now_ns: int) -> Change | None:
    """The venue shows as refused what it had taken: a trigger that fired into an empty book, for one."""
    contradiction = f"refused ({fact.text}) although the venue had taken it"
    if not fact.venue_order_id:
        raise IllegalTransition(contradiction)
    if state.venue_order_id not in (None, fact.venue_order_id):
        if state.pending_replace or fact.venue_order_id in state.venue_order_ids:
            # The new life of an amendment, or a former one: what becomes of the order is told otherwise.
            return None
        raise IllegalTransition(contradiction)
    if state.terminal:
        if state.status == pb.ORDER_STATUS_FILLED:
            raise IllegalTransition(contradiction)
        return None
    ending = Ending(
        status=pb.ORDER_STATUS_CANCELED,
        filled_quantity=None,
        text=fact.text,
        venue_order_id=fact.venue_order_id,
        reason=fact.reason,
    )
    return _ended(state, Ended(ending=ending, venue_time_ns=fact.venue_time_ns, origin=fact.origin), now_ns)


def _outcome_lost(state: OrderState, fact: OutcomeLost, now_ns: int) -> Change | None:
    if state.status != pb.ORDER_STATUS_PENDING_NEW:
        # The stream was quicker than the answer that got lost: nothing is uncertain.
        return None
    after = _changed(state, now_ns, status=pb.ORDER_STATUS_UNCERTAIN, uncertain_since_ns=now_ns)
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_UNCERTAIN, origin=pb.ORIGIN_GATEWAY, text=fact.cause)


def _proved_absent(state: OrderState, fact: ProvedAbsent, now_ns: int) -> Change | None:
    rejection = RejectedByVenue(
        reason=Reason.NEVER_REACHED_VENUE, text=f"never reached the venue: {fact.evidence}", origin=fact.origin
    )
    return _rejected(state, rejection, now_ns)


def _flag(
    state: OrderState,
    now_ns: int,
    execution_type: pb.ExecutionType.ValueType,
    origin: pb.Origin.ValueType,
    text: str = "",
    **flags: bool,
) -> Change | None:
    if state.terminal or all(getattr(state, name) == value for name, value in flags.items()):
        return None
    return Change(state=_changed(state, now_ns, **flags), execution_type=execution_type, origin=origin, text=text)


def _replaced(state: OrderState, fact: ReplaceConfirmed, now_ns: int) -> Change | None:
    if state.terminal:
        raise IllegalTransition(f"amended as {fact.venue_order_id} after it had ended")
    after = _changed(
        state,
        now_ns,
        price=state.price if fact.price is None else fact.price,
        trigger_price=state.trigger_price if fact.trigger_price is None else fact.trigger_price,
        venue_order_ids=_with_id(state, fact.venue_order_id),
        pending_replace=False,
    )
    if fact.quantity is not None:
        in_other_lives = EXACT.subtract(after.filled, after.filled_in(fact.venue_order_id))
        after = replace(after, quantity=max(EXACT.add(fact.quantity, in_other_lives), after.filled))
    if replace(after, version=state.version, updated_ns=state.updated_ns) == state:
        return None
    after = _settle_ending(_settle_full(_drop_superseded_ending(after)))
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_REPLACED, origin=pb.ORIGIN_VENUE)


def _replace_failed(state: OrderState, fact: ReplaceFailed, now_ns: int) -> Change | None:
    change = _flag(state, now_ns, pb.EXECUTION_TYPE_CANCEL_REJECTED, pb.ORIGIN_VENUE, fact.text, pending_replace=False)
    return replace(change, state=_settle_ending(_settle_full(change.state))) if change else None


def _settle_full(state: OrderState) -> OrderState:
    """What was filled whole while an amendment was under way is done once the amendment is settled."""
    if state.terminal or state.filled < state.quantity:
        return state
    return replace(state, status=pb.ORDER_STATUS_FILLED)


def _triggered(state: OrderState, fact: Triggered, now_ns: int) -> Change | None:
    trigger_state = _further(state, pb.TRIGGER_STATE_TRIGGERED)
    if trigger_state == state.trigger_state:
        return None
    after = _changed(state, now_ns, fact.venue_time_ns, trigger_state=trigger_state)
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_TRIGGERED, origin=pb.ORIGIN_VENUE)


def _armed(state: OrderState, now_ns: int) -> Change | None:
    if state.terminal or state.trigger_state != pb.TRIGGER_STATE_WAITING_FOR_PARENT:
        return None
    after = _changed(state, now_ns, trigger_state=pb.TRIGGER_STATE_WAITING)
    text = "its parent has filled"
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_ORDER_STATUS, origin=pb.ORIGIN_VENUE, text=text)


def _fills_complete(state: OrderState, now_ns: int) -> Change | None:
    """A reduce-only order shrinks with the position and is then called filled with less than its quantity."""
    ending = state.ending
    if ending is None or ending.status != pb.ORDER_STATUS_FILLED or ending.filled_quantity is not None:
        return None
    if not state.filled:
        # Called filled and without a fill: that proves nothing, and the venue goes on being asked.
        return None
    counted = replace(ending, filled_quantity=state.filled_in(ending.venue_order_id))
    after = _settle_ending(_changed(state, now_ns, ending=counted))
    text = f"the venue calls it filled, and has no more fills of it than {state.filled} of {state.quantity}"
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_ORDER_STATUS, origin=pb.ORIGIN_VENUE, text=text)


def _unrecognised(state: OrderState, fact: Unrecognised, now_ns: int) -> Change | None:
    if state.terminal or state.venue_status_text == fact.text:
        return None
    after = _changed(state, now_ns, fact.venue_time_ns, venue_status_text=fact.text)
    text = f"the venue says {fact.text!r}, which we do not know"
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_ORDER_STATUS, origin=fact.origin, text=text)


def _operator_acted(state: OrderState, fact: OperatorActed, now_ns: int) -> Change | None:
    if state.terminal:
        return None
    after = _changed(state, now_ns)
    return Change(state=after, execution_type=pb.EXECUTION_TYPE_ORDER_STATUS, origin=pb.ORIGIN_OPERATOR, text=fact.text)


def _with_id(state: OrderState, venue_order_id: str) -> tuple[str, ...]:
    if not venue_order_id or venue_order_id in state.venue_order_ids:
        return state.venue_order_ids
    return (*state.venue_order_ids, venue_order_id)


def reason_number(reason: Reason) -> error_pb2.Reason.ValueType:
    """The contract's number of a reason."""
    return error_pb2.Reason.Value(f"REASON_{reason}")
