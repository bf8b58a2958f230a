"""Finds out what became of transactions that the venue has queued: listens, and asks where the stream is silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway_lighter.codec_verdicts import TransactionState, Verdict
from gateway_lighter.private_stream import PrivateStream
from gateway_lighter.rest import LighterRest
from gateway_lighter.verdicts import Expectation, Finding
from venuemesh.clock import Clock
from venuemesh.errors import MeshError, OutcomeUnknown
from venuemesh.gateway.venue import Refused, VenueOrder

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Generic[T]):
    """One answer that is wanted of a message.

    Args:
        read: what a finding means for it; None where that is not known yet.
        place: which transaction of the message it is told by; a group makes several orders in one.
        client_index: of the order it makes, 0 when it makes none.
        look_up: asks for that order, where the transaction's row alone does not tell.
    """

    read: Callable[[Finding], T | Refused | None]
    place: int = 0
    client_index: int = 0
    look_up: Callable[[], Awaitable[VenueOrder | None]] | None = None


class Settler:
    """Settles the parts of a message.

    Args:
        timeout_s: most time for all parts together.
        poll_s: silence of the stream after which the venue is asked; doubled each time.
        on_unknown: told, with the account, of a refusal whose code nobody has seen.
    """

    def __init__(
        self,
        streams: Mapping[str, PrivateStream],
        rests: Mapping[str, LighterRest],
        *,
        timeout_s: float,
        poll_s: float,
        clock: Clock,
        on_unknown: Callable[[str, str], None],
    ) -> None:
        self._streams = streams
        self._rests = rests
        self._timeout_s = timeout_s
        self._poll_s = poll_s
        self._clock = clock
        self._on_unknown = on_unknown

    async def settle(
        self, account_id: str, expectations: Sequence[Expectation], parts: Sequence[Part[T]]
    ) -> list[T | Refused | OutcomeUnknown]:
        """One answer each, in order; an error, as a value, where nothing tells in time."""
        deadline_s = self._clock.monotonic_s() + self._timeout_s
        found: list[T | Refused | OutcomeUnknown] = []
        for expectation, part in zip(expectations, parts, strict=True):
            # One after the other costs no time: all of them listen meanwhile.
            try:
                answer = await self._settle(account_id, expectation, part, deadline_s)
            except OutcomeUnknown as error:
                found.append(error)
            else:
                found.append(answer)
        return found

    async def _settle(self, account_id: str, expectation: Expectation, part: Part[T], deadline_s: float) -> T | Refused:
        poll_s = self._poll_s
        while True:
            expectation.changed.clear()
            for finding in expectation.findings:
                if (answer := part.read(finding)) is not None:
                    self._note_words(account_id, finding)
                    return answer
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise OutcomeUnknown(
                    f"the venue queued transaction {expectation.tx_hash} and has not said what became of it",
                    metadata={"tx_hash": expectation.tx_hash},
                )
            try:
                async with asyncio.timeout(min(poll_s, left_s)):
                    await expectation.changed.wait()
            except TimeoutError:
                poll_s *= 2
                await self._ask(account_id, expectation, part)

    def _note_words(self, account_id: str, finding: Finding) -> None:
        refusal = finding.refusal if isinstance(finding, Verdict) else None
        if refusal is not None and not refusal.recognized:
            self._on_unknown(account_id, f"refusal {refusal.text}")

    async def _ask(self, account_id: str, expectation: Expectation, part: Part[T]) -> None:
        try:
            if expectation.verdict is None:
                verdict = await self._rests[account_id].fetch_verdict(expectation.tx_hash)
                if verdict is not None:
                    self._streams[account_id].verdicts.on_verdict(verdict)  # the other orders of a group hear it too
            executed = expectation.verdict is not None and expectation.verdict.state is TransactionState.EXECUTED
            if executed and expectation.order is None and part.look_up is not None:
                order = await part.look_up()
                if order is not None:
                    expectation.tell(order)
        except MeshError as error:
            log.warning("verdict_not_read", extra={"account_id": account_id, "error": error.message})
