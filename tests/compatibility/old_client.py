"""A caller with stubs of an earlier contract; run in a process of its own by test_old_client.py.

python old_client.py STUBS ADDRESS VENUE KEY

Submits a limit order under KEY, sees it on the stream, reads it, cancels it and sees that too. Prints one JSON object
of what it saw, and fails when the stubs are not those below STUBS.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

STUBS, ADDRESS, VENUE, KEY = sys.argv[1:]
sys.path.insert(0, STUBS)

import grpc  # noqa: E402
from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: E402

from venuemesh.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc  # noqa: E402

if Path(STUBS) not in Path(str(order_pb2.__file__)).parents:
    sys.exit(f"these are not the old stubs: {order_pb2.__file__}")
LIMIT_S = 60.0


def sees(stream: Any, status: int) -> str:
    """The execution type of the first report in which the order has this status."""
    for message in stream:
        report = message.event.execution_report
        if report.order.terms.client_order_id == KEY and report.order.status == status:
            return str(order_pb2.ExecutionType.Name(report.execution_type))
    raise SystemExit(f"the stream ended before the order was {order_pb2.OrderStatus.Name(status)}")


with grpc.insecure_channel(ADDRESS) as channel:
    orders = order_service_pb2_grpc.OrderServiceStub(channel)
    stream = orders.StreamExecutionReports(
        order_service_pb2.StreamExecutionReportsRequest(account_id="main", venue=VENUE), timeout=LIMIT_S
    )
    for first in stream:
        if first.HasField("snapshot_end"):
            break
    order = order_pb2.NewOrder(
        account_id="main",
        client_order_id=KEY,
        venue=VENUE,
        symbol="BTC/USDC:USDC",
        side=order_pb2.SIDE_BUY,
        order_type=order_pb2.ORDER_TYPE_LIMIT,
        time_in_force=order_pb2.TIME_IN_FORCE_GTC,
        quantity="1",
        price="100",
    )
    submitted = orders.SubmitOrder(order_service_pb2.SubmitOrderRequest(order=order), timeout=LIMIT_S)
    seen_new = sees(stream, order_pb2.ORDER_STATUS_NEW)
    reference = order_service_pb2.OrderReference(account_id="main", venue=VENUE, client_order_id=KEY)
    read = orders.GetOrder(order_service_pb2.GetOrderRequest(reference=reference), timeout=LIMIT_S).order
    canceled = orders.CancelOrder(order_service_pb2.CancelOrderRequest(reference=reference), timeout=LIMIT_S)
    seen_canceled = sees(stream, order_pb2.ORDER_STATUS_CANCELED)
    stream.cancel()

json.dump(
    {
        "submitted": order_service_pb2.SubmitOutcome.Name(submitted.outcome),
        "seen": [seen_new, seen_canceled],
        "read": order_pb2.OrderStatus.Name(read.status),
        "canceled": order_service_pb2.CancelOutcome.Name(canceled.outcome),
        "fields it does not know": [one.field_number for one in UnknownFieldSet(read)],
    },
    sys.stdout,
)
