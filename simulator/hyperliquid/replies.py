"""Refusals as exceptions inside the front, and the answers they become. Pure."""

from __future__ import annotations

from typing import Any

from simulator.hyperliquid.venue import Answer

DEFAULT: dict[str, Any] = {"type": "default"}


class Refused(Exception):
    """The whole action is refused; the text is the venue's."""


class BadRequest(Exception):
    """The body is not a known request: a 422 on the venue."""


def refused(text: str) -> Answer:
    """Top-level refusal: HTTP 200, status "err"."""
    return Answer(body={"status": "err", "response": text})


def default() -> dict[str, Any]:
    """`response` of an action that has nothing to say."""
    return dict(DEFAULT)
