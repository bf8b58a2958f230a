"""Tokens: what is sealed verifies, what was touched does not."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venuemesh.errors import AuthenticationFailed
from venuemesh.secrets import Secret
from venuemesh.security.tokens import MAX_LIMITS, TokenError, mint, narrow, parse, read_keys, verify

KEY = Secret("k" * 40)
OTHER = Secret("o" * 40)
KEYS = {"new": KEY, "old": OTHER}
TRADER = mint("new", KEY, "desk-1", ["scopes=read,trade"])


def reveal(token: Secret) -> str:
    return token.reveal()


def test_minted_token_verifies_and_tells_its_subject() -> None:
    """With the key it was minted with, whichever of the two."""
    assert verify(reveal(TRADER), KEYS).describe() == {"subject": "desk-1", "scopes": "read,trade"}
    assert verify(reveal(mint("old", OTHER, "x", ["scopes=read"])), KEYS).scope_text() == "read"


def test_token_without_scopes_allows_nothing() -> None:
    """No limit at all is not all power."""
    assert verify(reveal(mint("new", KEY, "x", [])), KEYS).scope_text() == "nothing"


def test_holder_narrows_without_a_key_and_cannot_widen_again() -> None:
    """A second `scopes` limit is an intersection."""
    narrowed = narrow(narrow(TRADER, ["scopes=read", "accounts=main"]), ["scopes=read,trade,risk"])
    grant = verify(reveal(narrowed), KEYS)
    assert (grant.scope_text(), grant.accounts) == ("read", frozenset({"main"}))


@given(cut=st.integers(1, 3))
def test_token_with_limits_taken_away_does_not_verify(cut: int) -> None:
    """The seal of fewer limits cannot be had from the seal of more."""
    token = parse(reveal(narrow(TRADER, ["accounts=main", "venues=lighter", "max_notional=5"])))
    limits = base64.urlsafe_b64encode(json.dumps(token.limits[:-cut]).encode()).rstrip(b"=").decode()
    seal = base64.urlsafe_b64encode(token.seal).rstrip(b"=").decode()
    with pytest.raises(AuthenticationFailed):
        verify(f"vm1.new.desk-1.{limits}.{seal}", KEYS)


@given(place=st.integers(0, 10_000), letter=st.sampled_from("Ab0_.-="))
def test_token_with_any_letter_changed_does_not_verify(place: int, letter: str) -> None:
    """Key id, subject, limits and seal are all sealed; padding bits of base64 change nothing."""
    text = reveal(TRADER)
    at = place % len(text)
    changed = text[:at] + letter + text[at + 1 :]
    try:
        same = parse(changed) == parse(text)
    except AuthenticationFailed:
        return
    if not same:
        with pytest.raises(AuthenticationFailed):
            verify(changed, KEYS)


@given(text=st.text(max_size=200))
def test_any_text_is_refused_and_nothing_else_is_raised(text: str) -> None:
    """The header comes from strangers."""
    with pytest.raises(AuthenticationFailed):
        verify(text, KEYS)


def test_token_of_a_key_that_was_removed_does_not_verify() -> None:
    """Taking a key out of the file revokes all its tokens."""
    with pytest.raises(AuthenticationFailed, match="not valid here"):
        verify(reveal(TRADER), {"old": OTHER})


def test_token_with_a_limit_of_a_later_version_is_refused() -> None:
    """Nobody may assume what it meant; here it was sealed by one who knew."""
    from venuemesh.security import tokens

    parts = parse(reveal(TRADER))
    seal = tokens._next_link(parts.seal, "moon=full")
    limits = base64.urlsafe_b64encode(json.dumps([*parts.limits, "moon=full"]).encode()).rstrip(b"=").decode()
    text = f"vm1.new.desk-1.{limits}.{base64.urlsafe_b64encode(seal).rstrip(b'=').decode()}"
    with pytest.raises(AuthenticationFailed, match="cannot be read"):
        verify(text, KEYS)


@pytest.mark.parametrize(
    ("key_id", "key", "subject", "limits"),
    [
        ("", KEY, "x", []),
        ("new", KEY, "a.b", []),
        ("new", Secret("short"), "x", []),
        ("new", KEY, "x", ["scopes=admin"]),
        ("new", KEY, "x", ["accounts=main"] * (MAX_LIMITS + 1)),
    ],
)
def test_token_that_breaks_a_rule_is_not_minted(key_id: str, key: Secret, subject: str, limits: list[str]) -> None:
    """The mint refuses what the verifier would."""
    with pytest.raises(TokenError):
        mint(key_id, key, subject, limits)


def test_key_file_lists_keys_in_order_with_comments() -> None:
    """The first mints."""
    assert list(read_keys(f"# two keys\nb {'x' * 32}\n\na {'y' * 32} # old\n")) == ["b", "a"]


@pytest.mark.parametrize(
    "text", ["", "# none", "only-an-id", f"a b {'x' * 32}", "a short", f"a {'x' * 32}\na {'y' * 32}"]
)
def test_key_file_that_breaks_a_rule_is_refused_without_showing_a_secret(text: str) -> None:
    """The message names the line."""
    with pytest.raises(TokenError) as caught:
        read_keys(text)
    assert "xxxx" not in str(caught.value)


def test_parsed_token_prints_without_its_seal() -> None:
    """It is what a stranger would need."""
    assert "***" in repr(parse(reveal(TRADER)))
