"""Rows of GetQuota that are the same for every venue: the shared limits, and requests in flight on a socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from venuemesh.gateway.order_wire import duration
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.in_flight import InFlight
from venuemesh.v1 import operations_pb2


def shared_rows(venue: str, gate: LimiterGate, names: Mapping[str, str]) -> list[operations_pb2.Quota]:
    """What is left of every budget of the gate.

    Args:
        names: budget -> its name in the contract; each has one.
    """
    rows = []
    for view in gate.remaining():
        row = operations_pb2.Quota(
            venue=venue,
            limiter=names[view.name],
            limit=view.limit,
            remaining=view.remaining,
            reserved_for_cancels=view.remaining - view.remaining_orders,
            waiting=gate.waiting_for(view.name),
        )
        if view.reset_s > 0:
            row.reset_after.CopyFrom(duration(view.reset_s))
        rows.append(row)
    return rows


def in_flight_row(venue: str, limiter: str, in_flight: InFlight[Any]) -> operations_pb2.Quota:
    """Places for requests without an answer on one socket."""
    remaining = max(0, in_flight.most - len(in_flight))
    return operations_pb2.Quota(
        venue=venue,
        limiter=limiter,
        limit=in_flight.most,
        remaining=remaining,
        reserved_for_cancels=min(remaining, in_flight.cancel_reserve),
    )
