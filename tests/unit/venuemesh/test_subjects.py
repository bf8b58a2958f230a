"""Subjects keep their parts apart whatever the parts contain."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.subjects import Kind, account_filter, subject, token

TEXT = st.text(max_size=12)


def test_subject_of_a_fill_reads_as_documented() -> None:
    """The form promised to subscribers."""
    name = subject(Kind.FILL, "hyperliquid", "main", "BTC/USDC:USDC")
    assert name == "venuemesh.v1.fill.hyperliquid.main.BTC/USDC:USDC"


def test_subject_when_a_part_is_missing_has_a_dash() -> None:
    """Every subject has the same number of parts, so wildcards fit."""
    assert subject(Kind.VENUE, "hyperliquid") == "venuemesh.v1.venue.hyperliquid.-.-"


@given(TEXT, TEXT)
@settings(deadline=None)
def test_token_is_unique_and_safe(left: str, right: str) -> None:
    """No two texts share a token, and none contains what NATS reads as structure."""
    assert (token(left) == token(right)) == (left == right)
    assert not set(token(left)) & set(".*> \t\r\n\0")
    assert token(left)


def test_account_filter_covers_every_kind_of_one_account() -> None:
    """Kinds vary in the third place."""
    assert account_filter("hyperliquid", "main") == "venuemesh.v1.*.hyperliquid.main.>"
