"""Which answers of HyperCore refuse, for an auditor (property 9)."""

from __future__ import annotations

from typing import Any

import pytest

from hypercore.adapter.auditing import refuses


def taken(*statuses: Any) -> dict[str, Any]:
    """An answer to an action, one status per order."""
    return {"status": "ok", "response": {"type": "order", "data": {"statuses": list(statuses)}}}


def over_socket(answer: Any, kind: str = "action") -> dict[str, Any]:
    """The same as a WebSocket reply."""
    return {"channel": "post", "data": {"id": 3, "response": {"type": kind, "payload": answer}}}


RESTING = {"resting": {"oid": 7}}
REFUSED = {"error": "Order could not immediately match against any resting orders. asset=1"}
ERR = {"status": "err", "response": "User or API Wallet does not exist."}
TWAP = {"status": "ok", "response": {"type": "twapOrder", "data": {"status": {"error": "too small"}}}}


@pytest.mark.parametrize("answer", [ERR, taken(REFUSED), taken(RESTING, REFUSED), TWAP])
def test_an_error_for_the_whole_or_for_one_order_refuses(answer: Any) -> None:
    """P9: over HTTP and over the socket alike."""
    assert refuses(answer)
    assert refuses(over_socket(answer))


@pytest.mark.parametrize(
    "answer", [taken(RESTING), taken("success"), {"status": "ok", "response": {"type": "default"}}]
)
def test_what_was_done_refuses_nothing(answer: Any) -> None:
    """P9: nor does a read, whatever it holds."""
    assert not refuses(answer)
    assert not refuses(over_socket(answer))
    assert not refuses({"status": "order", "order": {"status": "rejected"}})


def test_error_replies_and_error_frames_refuse() -> None:
    """P9: the venue could not read the request."""
    assert refuses(over_socket("Too many cumulative requests sent", "error"))
    assert refuses({"channel": "error", "data": "Invalid subscription"})


@pytest.mark.parametrize("answer", [None, 7, "err", [ERR], {"data": 1}, {"response": {"data": {"statuses": 5}}}])
def test_shapes_nobody_expects_refuse_nothing_and_raise_nothing(answer: Any) -> None:
    """P9: an auditor reads them himself."""
    assert not refuses(answer)
