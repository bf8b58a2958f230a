"""What the router may do with each method of a gateway, as the contract declares it. Pure.

`policy.repeat` decides what is called again: a read or an idempotent write may be, a write with a key is not, as only
its caller knows that the first one failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from venuemesh.v1 import (
    account_service_pb2,
    instrument_service_pb2,
    market_data_service_pb2,
    operations_service_pb2,
    options_pb2,
    order_service_pb2,
    reconciliation_service_pb2,
    risk_service_pb2,
    venue_service_pb2,
)

_SERVICES = (
    account_service_pb2,
    instrument_service_pb2,
    market_data_service_pb2,
    operations_service_pb2,
    order_service_pb2,
    reconciliation_service_pb2,
    risk_service_pb2,
    venue_service_pb2,
)
_NEW_ORDERS = frozenset({"SubmitOrder", "SubmitOrderList", "BatchSubmitOrders"})
_OTHER_JUDGED = frozenset({"ReplaceOrder", "CancelOrder", "BatchCancelOrders"})
_QUICK_MS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRule:
    """How a method may be called.

    Args:
        is_read: has no side effects.
        repeatable: may be called again after a failure that hides its result.
        safety: makes things safer: it has room of its own where others are too many.
        makes_orders: an open breaker refuses it. An amendment is not: its order is at the venue already, no other can
            take it, and whether an earlier attempt was applied only the venue knows.
        judged: its end tells something about the venue. CancelAllOrders does not: how long it takes depends on how
            much there is to cancel.
        hedged: a second attempt may race the first: a quick read, which costs the venue little or nothing.
    """

    name: str
    is_read: bool = False
    repeatable: bool = False
    safety: bool = False
    makes_orders: bool = False
    judged: bool = False
    hedged: bool = False


def _rule(service: str, method: Any) -> CallRule:
    policy = method.GetOptions().Extensions[options_pb2.policy]
    is_read = policy.repeat == options_pb2.REPEAT_READ
    in_orders = service == "OrderService"
    makes = in_orders and method.name in _NEW_ORDERS
    return CallRule(
        name=f"{service}/{method.name}",
        is_read=is_read,
        repeatable=is_read or policy.repeat == options_pb2.REPEAT_IDEMPOTENT,
        # Renewing a dead-man's switch is not of that rate, and must not wait behind orders either.
        safety=policy.safety or service == "RiskService",
        makes_orders=makes,
        judged=makes or (in_orders and method.name in _OTHER_JUDGED),
        hedged=is_read and 0 < policy.default_deadline_ms <= _QUICK_MS,
    )


RULES: Mapping[str, CallRule] = {
    f"/{descriptor.full_name}/{method.name}": _rule(descriptor.name, method)
    for module in _SERVICES
    for descriptor in module.DESCRIPTOR.services_by_name.values()
    for method in descriptor.methods
}


def rule_of(method: Any) -> CallRule:
    """The rule of a method of a stub over a `MeshChannel`.

    Raises:
        KeyError: no gateway serves it.
    """
    return RULES[method.path]
