"""Which answers of Lighter refuse, for an auditor (property 9)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_lighter.auditing import refuses


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 21_711, "message": "invalid expiry"},
        {"type": "jsonapi/sendtx", "data": {"id": "1", "code": 21_104}},
        {"error": {"code": 30_003, "message": "Invalid Channel"}},
        {"type": "error"},
    ],
)
def test_a_code_other_than_success_and_an_error_refuse(answer: Any) -> None:
    """P9: over HTTP and over the socket."""
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 200, "tx_hash": "ab"},
        {"type": "jsonapi/sendtx", "data": {"id": "1", "code": 200}},
        {"data": 1},
        None,
        [1],
    ],
)
def test_success_and_shapes_nobody_expects_refuse_nothing(answer: Any) -> None:
    """P9: an auditor reads what is strange himself."""
    assert not refuses(answer)
