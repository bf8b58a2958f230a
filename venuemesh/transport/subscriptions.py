"""Subscriptions as requests with an answer, for whoever watches a link. Pure.

What is remembered is what was asked for, never the frame that asked: that one may carry a token.
"""

from __future__ import annotations

from venuemesh.errors import Sent
from venuemesh.transport.observer import RequestOutcome, RequestRecord


class SubscriptionRecords:
    """Subscriptions of one connection that the venue has not answered yet."""

    def __init__(self, link: str) -> None:
        self._link = link
        self._asked: dict[str, tuple[str, float, int]] = {}

    def asked(self, wanted: str, kind: str, *, now_s: float, now_ns: int) -> None:
        """A subscription was asked for; `kind` is its bounded name. While unanswered, a repeat changes nothing."""
        self._asked.setdefault(wanted, (kind, now_s, now_ns))

    def answered(self, wanted: str, *, now_s: float, refusal: str = "") -> RequestRecord | None:
        """The venue confirmed a subscription, or refused it; None when nobody had asked."""
        found = self._asked.pop(wanted, None)
        if found is None:
            return None
        outcome = RequestOutcome.CLIENT_ERROR if refusal else RequestOutcome.OK
        return self._record(wanted, *found, now_s=now_s, outcome=outcome, answer=refusal)

    def lost(self, *, now_s: float, detail: str) -> list[RequestRecord]:
        """The connection ended: what it asked for is not answered any more."""
        asked, self._asked = self._asked, {}
        return [
            self._record(wanted, *found, now_s=now_s, outcome=RequestOutcome.LOST, detail=detail)
            for wanted, found in asked.items()
        ]

    def _record(
        self,
        wanted: str,
        kind: str,
        started_s: float,
        started_ns: int,
        *,
        now_s: float,
        outcome: RequestOutcome,
        answer: str = "",
        detail: str = "",
    ) -> RequestRecord:
        lost = outcome is RequestOutcome.LOST
        return RequestRecord(
            link=self._link,
            endpoint=f"subscribe.{kind}",
            outcome=outcome,
            write=False,
            sent=Sent.MAYBE if lost else Sent.YES,
            started_ns=started_ns,
            latency_s=now_s - started_s,
            request_body=wanted.encode(),
            response_body=answer.encode(),
            status=None if lost else 0,
            detail=detail,
        )
