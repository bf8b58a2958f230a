"""What an answer of HyperCore says to an auditor: whether it refuses. Pure.

Source: venue reference section 3; a WebSocket reply holds the same under `data.response.payload`.
"""

from __future__ import annotations

from typing import Any


def refuses(answer: Any) -> bool:
    """Whether an answer declines the request or a part of it: `status: err`, an error reply, or one order's error."""
    if not isinstance(answer, dict):
        return False
    if answer.get("channel") == "error":
        return True
    response = _inside(answer, "data", "response")
    if isinstance(response, dict):
        return response.get("type") == "error" or refuses(response.get("payload"))
    if answer.get("status") == "err":
        return True
    data = _inside(answer, "response", "data")
    statuses = data.get("statuses", [data.get("status")]) if isinstance(data, dict) else []
    return isinstance(statuses, list) and any(isinstance(status, dict) and "error" in status for status in statuses)


def _inside(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
