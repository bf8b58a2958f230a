"""What the operator reads once the mesh is up: a table of services, and commands to paste. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.local.services import Known, Service

NOT_SHOWN = "-"


def service_table(services: Sequence[Service], known: Known) -> str:
    """Name, address, metrics address and log file of each service, aligned."""
    rows = [("service", "address", "metrics")]
    for service in services:
        facts = known.get(service.name, {})
        address = next((facts[key] for key in ("grpc_address", "hyperliquid_url", "url") if key in facts), NOT_SHOWN)
        metrics = facts.get("metrics_address")
        rows.append((service.name, address, f"http://{metrics}/metrics" if metrics else NOT_SHOWN))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def warning_table(warnings: Mapping[str, Mapping[str, int]]) -> str:
    """One line per service and warning, with its count; empty when there was none."""
    rows = [(name, f"{count} ×", event) for name, events in warnings.items() for event, count in events.items()]
    return _aligned(rows) if rows else ""


def example_calls(
    *, router: str, aggregator: str, venue: str, account_id: str, symbol: str, run_id: str, flags: str = "-plaintext"
) -> list[str]:
    """grpcurl commands that work as they stand: the servers describe themselves by reflection.

    Args:
        flags: how grpcurl connects.
    """
    instrument = {"venue": venue, "symbol": symbol}
    order = {
        "account_id": account_id,
        "client_order_id": f"{run_id}-mine",
        **instrument,
        "side": "SIDE_BUY",
        "order_type": "ORDER_TYPE_MARKET",
        "time_in_force": "TIME_IN_FORCE_IOC",
        "quantity": "0.001",
    }
    reference = {"account_id": account_id, "venue": venue, "client_order_id": f"{run_id}-mine"}
    return [
        f"grpcurl {flags} {router} list",
        grpcurl(router, "MarketDataService/GetOrderBook", {**instrument, "depth": 5}, flags),
        grpcurl(router, "OrderService/SubmitOrder", {"order": order}, flags),
        grpcurl(router, "OrderService/GetOrder", {"reference": reference}, flags),
        grpcurl(aggregator, "PortfolioService/GetPortfolio", {}, flags),
        grpcurl(aggregator, "PortfolioService/StreamPortfolio", {}, flags),
    ]


def grpcurl(address: str, method: str, request: Mapping[str, Any], flags: str) -> str:
    """One command; `method` without its package."""
    data = f"-d '{json.dumps(request)}' " if request else ""
    return f"grpcurl {flags} {data}{address} venuemesh.v1.{method}"
