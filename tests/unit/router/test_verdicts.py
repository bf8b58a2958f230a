"""What the end of a call says about its venue: decided by the class of its error, or by the outcome of its answer."""

from __future__ import annotations

from typing import Any

import pytest

from router.breaker import Verdict
from router.verdicts import verdict_of_answer, verdict_of_error
from venuemesh import errors
from venuemesh.errors import MeshError, Reason, Sent
from venuemesh.v1 import order_service_pb2 as pb

AT_FAULT = {
    errors.VenueUnavailable: Verdict.FAILURE,
    errors.ProtocolViolation: Verdict.FAILURE,
    errors.MeshError: Verdict.FAILURE,
    errors.OutcomeUnknown: Verdict.TIMEOUT,
}
ANSWERED = {errors.VenueRejected: Verdict.SUCCESS, errors.NonceRejected: Verdict.SUCCESS}


def family(parent: type[MeshError] = MeshError) -> list[type[MeshError]]:
    below = [one for child in parent.__subclasses__() if child.__module__ == errors.__name__ for one in family(child)]
    return [parent, *below]


PARENTS_ONLY = (errors.NotFound, errors.PreconditionFailed, errors.Unavailable)


@pytest.mark.parametrize("kind", [kind for kind in family() if kind not in PARENTS_ONLY])
def test_every_error_class_has_the_verdict_stated_here(kind: type[MeshError]) -> None:
    """P7: a class that is not listed, and every new one, tells nothing unless somebody decides otherwise."""
    expected = {**AT_FAULT, **ANSWERED}.get(kind, Verdict.NEUTRAL)
    assert verdict_of_error(kind("why")) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.OutcomeUnknown("lost", metadata={"grpc_code": "DEADLINE_EXCEEDED"}), Verdict.TIMEOUT),
        (errors.OutcomeUnknown("reset", metadata={"grpc_code": "UNAVAILABLE"}), Verdict.FAILURE),
        (errors.DeadlineTooShort("sent, no answer", metadata={"grpc_code": "DEADLINE_EXCEEDED"}), Verdict.TIMEOUT),
        (errors.DeadlineTooShort("refused at once"), Verdict.NEUTRAL),
        (errors.RateLimited("venue's", reason=Reason.RATE_LIMIT_VENUE, sent=Sent.MAYBE), Verdict.NEUTRAL),
        (errors.VenueUnavailable("5xx", reason=Reason.VENUE_UNAVAILABLE), Verdict.FAILURE),
        (errors.InvalidOrder("a rule of a newer gateway", reason=Reason.INTERNAL), Verdict.NEUTRAL),
        (errors.GatewayUnavailable("no connection"), Verdict.NEUTRAL),
        (errors.AuthenticationFailed("a caller's token, or one account's key"), Verdict.NEUTRAL),
    ],
)
def test_details_decide_where_the_class_is_not_enough(error: MeshError, expected: Verdict) -> None:
    """A limit is not the venue's fault; being refused for lack of time is not a time-out."""
    assert verdict_of_error(error) is expected


def submitted(outcome: int, **more: Any) -> pb.SubmitOrderResponse:
    return pb.SubmitOrderResponse(outcome=outcome, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (submitted(pb.SUBMIT_OUTCOME_ACKNOWLEDGED), Verdict.SUCCESS),
        (submitted(pb.SUBMIT_OUTCOME_REJECTED), Verdict.SUCCESS),
        (submitted(pb.SUBMIT_OUTCOME_PENDING), Verdict.SUCCESS),
        (submitted(pb.SUBMIT_OUTCOME_UNKNOWN), Verdict.TIMEOUT),
        (submitted(pb.SUBMIT_OUTCOME_UNKNOWN, replayed=True), Verdict.NEUTRAL),
        (pb.ReplaceOrderResponse(outcome=pb.SUBMIT_OUTCOME_UNKNOWN), Verdict.TIMEOUT),
        (pb.CancelOrderResponse(outcome=pb.CANCEL_OUTCOME_CANCELED), Verdict.SUCCESS),
        (pb.CancelOrderResponse(outcome=pb.CANCEL_OUTCOME_REJECTED), Verdict.SUCCESS),
        (pb.CancelOrderResponse(outcome=pb.CANCEL_OUTCOME_UNKNOWN), Verdict.TIMEOUT),
        (pb.CancelOrderResponse(outcome=pb.CANCEL_OUTCOME_ALREADY_TERMINAL), Verdict.NEUTRAL),
        (pb.SubmitOrderListResponse(results=[submitted(2), submitted(4)]), Verdict.TIMEOUT),
        (pb.BatchSubmitOrdersResponse(results=[pb.BatchSubmitResult(response=submitted(1))]), Verdict.SUCCESS),
        (pb.BatchSubmitOrdersResponse(results=[pb.BatchSubmitResult()]), Verdict.NEUTRAL),
        (
            pb.BatchCancelOrdersResponse(
                results=[
                    pb.BatchCancelResult(response=pb.CancelOrderResponse(outcome=pb.CANCEL_OUTCOME_CANCELED)),
                    pb.BatchCancelResult(response=pb.CancelOrderResponse(outcome=pb.CANCEL_OUTCOME_UNKNOWN)),
                ]
            ),
            Verdict.TIMEOUT,
        ),
    ],
)
def test_outcome_of_an_answer_decides(answer: Any, expected: Verdict) -> None:
    """A rejected order is the venue's word and so a success; a lost one is a time-out; a replay asked nobody."""
    assert verdict_of_answer(answer) is expected
