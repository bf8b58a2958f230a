"""What the end of a call to a gateway tells about its venue. Pure.

The venue is at fault when it does not answer, or not in its own words. An answer it decided on, such as a rejected
order, is a success. What the caller, a limit, the journal or a state of ours is to blame for tells nothing, and neither
does a gateway that cannot be reached at all: its link says so and heals at once, a breaker would only keep orders away
longer.
"""

from __future__ import annotations

from typing import Any

from router.breaker import Verdict
from venuemesh.errors import ErrorClass, MeshError, OutcomeUnknown, Reason
from venuemesh.v1 import order_service_pb2 as pb

_FAILED = frozenset({Reason.VENUE_DISCONNECTED, Reason.VENUE_UNAVAILABLE, Reason.VENUE_PROTOCOL_ERROR})
_ANSWERED = frozenset({Reason.NONCE_REJECTED})
_TIMED_OUT = "DEADLINE_EXCEEDED"


def verdict_of_error(error: MeshError) -> Verdict:
    """The verdict on a call that raised `error`; every error has exactly one."""
    transport = error.metadata.get("grpc_code", "")
    if isinstance(error, OutcomeUnknown):
        return Verdict.TIMEOUT if transport in ("", _TIMED_OUT) else Verdict.FAILURE
    if error.reason is Reason.DEADLINE_TOO_SHORT:
        # With a code of the transport it was sent and nobody answered; else it was refused for lack of time.
        return Verdict.TIMEOUT if transport == _TIMED_OUT else Verdict.NEUTRAL
    # A reason of a newer gateway reads INTERNAL here; what it means then is in the code.
    if error.reason in _FAILED or (error.reason is Reason.INTERNAL and error.code.name == "INTERNAL"):
        return Verdict.FAILURE
    if error.reason in _ANSWERED or error.error_class is ErrorClass.EXCHANGE_ERROR:
        return Verdict.SUCCESS
    return Verdict.NEUTRAL


def verdict_of_answer(answer: Any) -> Verdict:
    """The verdict on an answered call; of a batch, the worst of its elements."""
    match answer:
        case pb.SubmitOrderResponse() | pb.CancelOrderResponse() | pb.ReplaceOrderResponse():
            return _of_outcome(answer)
        case pb.SubmitOrderListResponse():
            return _worst([_of_outcome(one) for one in answer.results])
        case pb.BatchSubmitOrdersResponse() | pb.BatchCancelOrdersResponse():
            # Elements refused on their own tell nothing; those that reached the venue do.
            return _worst([_of_outcome(one.response) for one in answer.results if one.HasField("response")])
    return Verdict.SUCCESS


def _of_outcome(answer: Any) -> Verdict:
    if isinstance(answer, pb.CancelOrderResponse):
        known = answer.already_terminal or answer.outcome == pb.CANCEL_OUTCOME_ALREADY_TERMINAL
        lost = answer.outcome == pb.CANCEL_OUTCOME_UNKNOWN
    else:
        known = answer.replayed
        lost = answer.outcome == pb.SUBMIT_OUTCOME_UNKNOWN
    if known:
        # Its gateway may say that without asking the venue.
        return Verdict.NEUTRAL
    return Verdict.TIMEOUT if lost else Verdict.SUCCESS


def _worst(verdicts: list[Verdict]) -> Verdict:
    for one in (Verdict.TIMEOUT, Verdict.SUCCESS):
        if one in verdicts:
            return one
    return Verdict.NEUTRAL
