"""What is left of the venue's limits, as rows of GetQuota."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway_lighter.keys import Wallet
from gateway_lighter.limits import REST, SETTINGS, TRANSACTIONS, WS_CONNECTS, WS_MESSAGES
from gateway_lighter.private_stream import PrivateStream
from venuemesh.gateway.quota_rows import in_flight_row, shared_rows
from venuemesh.transport.gate import LimiterGate
from venuemesh.v1 import operations_pb2

LIMITERS: Final = {
    REST: "requests",
    TRANSACTIONS: "transactions",
    SETTINGS: "settings",
    WS_MESSAGES: "websocket_messages",
    WS_CONNECTS: "websocket_connections",
}
"""Our budgets -> the names shown."""


class Quotas:
    """Rows of GetQuota for one gateway."""

    def __init__(
        self, venue: str, gate: LimiterGate, streams: Mapping[str, PrivateStream], wallets: Mapping[str, Wallet]
    ) -> None:
        self._venue = venue
        self._gate = gate
        self._streams = streams
        self._wallets = wallets

    def rows(self) -> list[operations_pb2.Quota]:
        """One row per limiter: the shared ones, then per account its transactions in flight and its volume quota."""
        rows = shared_rows(self._venue, self._gate, LIMITERS)
        for account_id, stream in self._streams.items():
            in_flight = stream.stream.session.in_flight
            rows.append(in_flight_row(self._venue, f"transactions_in_flight.{account_id}", in_flight))
            remaining = self._wallets[account_id].quota.remaining
            if remaining is not None:
                # The venue names what is left and no limit; a cancel costs nothing of it.
                rows.append(
                    operations_pb2.Quota(
                        venue=self._venue, limiter=f"volume.{account_id}", limit=remaining, remaining=remaining
                    )
                )
        return rows
