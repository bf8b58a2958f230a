"""What an answer of Lighter says to an auditor: whether it refuses. Pure.

Source: venue reference sections 2 and 13; a WebSocket reply holds the code under `data` or `error`. That a transaction
was queued says nothing of its verdict, which comes later.
"""

from __future__ import annotations

from typing import Any, Final

SUCCESS: Final = 200


def refuses(answer: Any) -> bool:
    """Whether an answer declines the request: a code other than 200, or an error."""
    if not isinstance(answer, dict):
        return False
    if answer.get("error") or answer.get("type") == "error":
        return True
    code = answer.get("code")
    if code is None and isinstance(answer.get("data"), dict):
        return refuses(answer["data"])
    return isinstance(code, int) and code != SUCCESS
