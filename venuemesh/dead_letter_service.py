"""The two calls about dead letters, the same at every service."""

from __future__ import annotations

from venuemesh.clock import Clock
from venuemesh.dead_letters import MAX_OPERATOR, MAX_TEXT, DeadLetters
from venuemesh.errors import InvalidRequest
from venuemesh.paging import Pager
from venuemesh.v1 import operations_service_pb2 as wire


class DeadLetterDesk:
    """Answers ListDeadLetters and RequeueDeadLetter for a servicer."""

    def __init__(self, letters: DeadLetters, pager: Pager, clock: Clock) -> None:
        self._letters = letters
        self._pager = pager
        self._clock = clock

    async def list(self, request: wire.ListDeadLettersRequest) -> wire.ListDeadLettersResponse:
        """A page of letters, oldest first.

        Raises:
            InvalidRequest, ResumeExpired: the page is none of this list.
        """
        page = self._pager.read(request, now_ns=self._clock.now_ns())
        if page.cursor and not page.cursor.isdecimal():
            raise InvalidRequest("page_token: is not one this service made", field="page_token")
        letters, more = await self._letters.page(page.size, after=int(page.cursor or 0))
        token = ""
        if more:
            token = self._pager.token(request, str(letters[-1].stream_sequence), now_ns=self._clock.now_ns())
        return wire.ListDeadLettersResponse(dead_letters=letters, next_page_token=token)

    async def requeue(self, request: wire.RequeueDeadLetterRequest) -> wire.RequeueDeadLetterResponse:
        """Put one back.

        Raises:
            DeadLetterNotFound, InvalidRequest: see `DeadLetters.requeue`; or a text is too long.
        """
        for name, text, most in (("operator", request.operator, MAX_OPERATOR), ("reason", request.reason, MAX_TEXT)):
            if len(text) > most:
                raise InvalidRequest(f"{name}: has {len(text)} characters, at most {most}", field=name)
        name, already = await self._letters.requeue(
            request.stream_sequence, operator=request.operator, reason=request.reason
        )
        return wire.RequeueDeadLetterResponse(subject=name, already_requeued=already)
