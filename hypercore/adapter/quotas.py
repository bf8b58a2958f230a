"""What is left of the venue's limits, and the address budget no limiter of ours can know alone.

The address budget (actions over an account's life) is counted here between readings of `userRateLimit`, which costs
weight and so is asked for rarely. Source: venue reference section 5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hypercore.account_messages import RateBudget
from hypercore.adapter.private_stream import PrivateStream
from hypercore.limits import IP_WEIGHT, WS_CONNECTS, WS_MESSAGES
from venuemesh.errors import MeshError
from venuemesh.gateway.quota_rows import in_flight_row, shared_rows
from venuemesh.transport.gate import LimiterGate
from venuemesh.v1 import operations_pb2

log = logging.getLogger(__name__)

LIMITERS: Final = {IP_WEIGHT: "ip_weight", WS_MESSAGES: "websocket_messages", WS_CONNECTS: "websocket_connections"}
"""Our budgets -> the contract's names."""

CANCEL_EXTRA: Final = 100_000
"""Cancels may go on beyond an address's limit: up to this much, or as much again, whichever is less."""


@dataclass(slots=True)
class AddressBudget:
    """Actions of one address: the venue's last word, and what was sent since."""

    used: int | None = None
    cap: int = 0
    sent_since: int = 0

    def read(self, answer: RateBudget, *, sent_before: int) -> None:
        """The venue's count; `sent_before` of ours had been sent when it was asked and are in it."""
        self.used, self.cap = answer.n_requests_used, answer.n_requests_cap
        self.sent_since = max(0, self.sent_since - sent_before)

    def refused(self, used: int, cap: int) -> None:
        """The venue named both in a refusal."""
        self.used, self.cap, self.sent_since = used, cap, 0

    def quota(self, venue: str, limiter: str) -> operations_pb2.Quota | None:
        """A row; None before the venue was asked. What is over the address's own limit is for cancels alone."""
        if self.used is None:
            return None
        used = self.used + self.sent_since
        most = min(self.cap + CANCEL_EXTRA, 2 * self.cap)
        remaining = max(0, most - used)
        return operations_pb2.Quota(
            venue=venue,
            limiter=limiter,
            limit=most,
            remaining=remaining,
            reserved_for_cancels=remaining - max(0, self.cap - used),
        )


class Quotas:
    """Rows of GetQuota for one gateway.

    Args:
        read: asks the venue for the budget of an account.
        period_s: between two readings of one account.
    """

    def __init__(
        self,
        venue: str,
        gate: LimiterGate,
        streams: Mapping[str, PrivateStream],
        read: Callable[[str], Awaitable[RateBudget]],
        *,
        period_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._venue = venue
        self._gate = gate
        self._streams = streams
        self._read = read
        self._period_s = period_s
        self._sleep = sleep
        self.addresses = {account_id: AddressBudget() for account_id in streams}

    async def run(self) -> None:
        """Read the address budgets now and then, until cancelled."""
        while True:
            for account_id, budget in self.addresses.items():
                before = budget.sent_since
                try:
                    budget.read(await self._read(account_id), sent_before=before)
                except MeshError as error:
                    log.warning("address_budget_not_read", extra={"account_id": account_id, "error": error.message})
            await self._sleep(self._period_s)

    def on_sent(self, account_id: str, entries: int) -> None:
        """An action of so many entries left; each counts, also one that fails."""
        self.addresses[account_id].sent_since += entries

    def on_exhausted(self, account_id: str, details: Mapping[str, str]) -> None:
        """The venue refused for want of budget and named the numbers, or not."""
        if details.get("used", "").isdigit() and details.get("cap", "").isdigit():
            self.addresses[account_id].refused(int(details["used"]), int(details["cap"]))

    def rows(self) -> list[operations_pb2.Quota]:
        """One row per limiter: those of the IP address, then per account its posts and its address budget."""
        rows = shared_rows(self._venue, self._gate, LIMITERS)
        for account_id, stream in self._streams.items():
            in_flight = stream.stream.session.in_flight
            rows.append(in_flight_row(self._venue, f"websocket_posts.{account_id}", in_flight))
            budget = self.addresses[account_id].quota(self._venue, f"address.{account_id}")
            if budget is not None:
                rows.append(budget)
        return rows
