"""What is left of the venue's limits, as rows of GetQuota."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration

from gateway_lighter.keys import Wallet
from gateway_lighter.limits import REST, SETTINGS, TRANSACTIONS, WS_CONNECTS, WS_MESSAGES
from gateway_lighter.links import Links, in_flight_reserve
from gateway_lighter.private_stream import PrivateStream
from venuemesh.transport.limiter import BudgetView
from venuemesh.v1 import operations_pb2

LIMITERS: Final = {
    REST: "requests",
    TRANSACTIONS: "transactions",
    SETTINGS: "settings",
    WS_MESSAGES: "websocket_messages",
    WS_CONNECTS: "websocket_connections",
}
"""Our budgets -> the names shown."""

_NS_PER_S: Final = 1_000_000_000


class Quotas:
    """Rows of GetQuota for one gateway."""

    def __init__(
        self, venue: str, links: Links, streams: Mapping[str, PrivateStream], wallets: Mapping[str, Wallet]
    ) -> None:
        self._venue = venue
        self._links = links
        self._streams = streams
        self._wallets = wallets

    def rows(self) -> list[operations_pb2.Quota]:
        """One row per limiter: the shared ones, then per account its transactions in flight and its volume quota."""
        rows = [self._shared(view) for view in self._links.shared.gate.remaining()]
        for account_id, stream in self._streams.items():
            rows.append(self._in_flight(account_id, len(stream.stream.session.in_flight)))
            remaining = self._wallets[account_id].quota.remaining
            if remaining is not None:
                # The venue names what is left and no limit; a cancel costs nothing of it.
                rows.append(
                    operations_pb2.Quota(
                        venue=self._venue, limiter=f"volume.{account_id}", limit=remaining, remaining=remaining
                    )
                )
        return rows

    def _shared(self, view: BudgetView) -> operations_pb2.Quota:
        row = operations_pb2.Quota(
            venue=self._venue,
            limiter=LIMITERS[view.name],
            limit=view.limit,
            remaining=view.remaining,
            reserved_for_cancels=view.remaining - view.remaining_orders,
            waiting=self._links.shared.gate.waiting_for(view.name),
        )
        if view.reset_s > 0:
            whole, nanos = divmod(round(view.reset_s * _NS_PER_S), _NS_PER_S)
            row.reset_after.CopyFrom(Duration(seconds=whole, nanos=nanos))
        return row

    def _in_flight(self, account_id: str, in_flight: int) -> operations_pb2.Quota:
        limit = self._links.max_in_flight
        remaining = max(0, limit - in_flight)
        return operations_pb2.Quota(
            venue=self._venue,
            limiter=f"transactions_in_flight.{account_id}",
            limit=limit,
            remaining=remaining,
            reserved_for_cancels=min(remaining, in_flight_reserve(limit)),
        )
