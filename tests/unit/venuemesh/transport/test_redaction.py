"""No secret survives redaction, wherever in a body it stands, and what is no secret does (property 9)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.transport.redaction import MASK, is_secret_name, redact_body, redact_prose, redact_target, redact_text

KEY = "0x" + "5e" * 32
SIGNATURE = "ab" * 65
SECRET_NAMES = (
    "Sig",
    "L1Sig",
    "signature",
    "auth",
    "Authorization",
    "api_key",
    "agentPrivateKey",
    "seed",
    "auth-token",
)

plain_names = st.text("abcdefgh", min_size=4, max_size=8).filter(lambda name: not is_secret_name(name))
leaves = st.one_of(st.text("xyz 0123", max_size=12), st.integers(-(2**40), 2**40), st.booleans(), st.none())
secrets = st.sampled_from(SECRET_NAMES).map(lambda name: (name, KEY))


def trees(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects and lists, some with a secret in them."""
    plain = st.dictionaries(plain_names, children, max_size=3)
    with_secret = st.tuples(plain, secrets).map(lambda parts: {**parts[0], parts[1][0]: parts[1][1]})
    return st.one_of(plain, with_secret, st.lists(children, max_size=3))


bodies = st.recursive(leaves, trees, max_leaves=12).filter(lambda value: isinstance(value, dict | list))


def without_secrets(value: Any) -> Any:
    """What should be left, said the simple way."""
    if isinstance(value, dict):
        return {name: MASK if name in SECRET_NAMES else without_secrets(inner) for name, inner in value.items()}
    return [without_secrets(inner) for inner in value] if isinstance(value, list) else value


@given(bodies)
@settings(max_examples=150, deadline=None)
def test_json_keeps_everything_but_values_under_secret_names(body: Any) -> None:
    """P9: structure and plain values stay, at every depth."""
    redacted = redact_body(json.dumps(body).encode())
    assert KEY not in redacted
    assert json.loads(redacted) == without_secrets(body)


@given(bodies)
@settings(max_examples=100, deadline=None)
def test_json_inside_a_form_inside_json_is_read_too(body: Any) -> None:
    """P9: a venue that takes JSON as a form field hides nothing from us."""
    form = urlencode({"tx_type": "14", "tx_info": json.dumps(body)})
    assert KEY not in redact_text(form)
    assert KEY not in redact_text(json.dumps({"data": json.dumps(body)}))
    assert "tx_type=14" in redact_text(form)


def test_signature_in_three_parts_is_taken_out_and_a_candle_is_not() -> None:
    """Parts are known by being three; a candle has an `s` and a `v` of its own."""
    signed = {"action": {"type": "order"}, "signature": {"r": KEY, "s": KEY, "v": 27}}
    assert json.loads(redact_text(json.dumps(signed))) == {"action": {"type": "order"}, "signature": MASK}
    bare = {"sigs": 1, "rsv": {"r": KEY, "s": KEY, "v": 27, "x": "kept"}}
    assert json.loads(redact_text(json.dumps(bare)))["rsv"] == {"r": MASK, "s": MASK, "v": MASK, "x": "kept"}
    candle = {"t": 1, "s": "ETH", "v": "12.5", "o": "3000"}
    assert json.loads(redact_text(json.dumps(candle))) == candle


@pytest.mark.parametrize("shape", [SIGNATURE, "0x" + SIGNATURE, "Zm9v" * 27, f"1790000000:4242:4:{'0f' * 80}"])
def test_what_has_the_shape_of_a_signature_goes_whatever_its_name(shape: str) -> None:
    """P9: a name nobody thought of is no way out."""
    assert shape[-90:] not in redact_text(json.dumps({"note": f"said {shape}."}))
    assert shape[-90:] not in redact_text(json.dumps([shape]))
    assert shape[-90:] not in redact_text(f"a=1&b={shape}")


def test_ids_hashes_and_addresses_stay() -> None:
    """What an auditor looks for is no secret."""
    row = {"cloid": "0x" + "1f" * 16, "hash": "0x" + "ab" * 32, "user": "0x" + "cd" * 20, "tx_hash": "9e" * 40}
    assert json.loads(redact_text(json.dumps(row))) == row


def test_text_of_no_structure_loses_everything_that_could_be_a_key() -> None:
    """P9: an error page may echo what it was sent."""
    assert (
        redact_body(b"User or wallet 0x" + b"ab" * 20 + b" does not exist")
        == f"User or wallet 0x{'ab' * 20} does not exist"
    )
    assert redact_prose(f"cannot sign with {KEY} now") == f"cannot sign with {MASK} now"
    assert KEY not in redact_body(b'{"cut off": "' + KEY.encode())
    assert redact_body(b"\xff\xfe") == "[2 bytes that are no text]"
    assert redact_body(b"") == ""


def test_query_keeps_its_parameters_but_not_its_secrets() -> None:
    """P9: some venues take a token in the URL."""
    assert redact_target("/api/v1/account?by=index&value=7&auth=abc") == "/api/v1/account?by=index&value=7&auth=***"
    assert redact_target("/info") == "/info"


def test_body_that_is_nested_beyond_reason_is_cut_not_followed() -> None:
    """A hostile answer costs neither the stack nor a secret."""
    deep = '{"a":' * 500 + f'"{KEY}"' + "}" * 500
    assert KEY not in redact_text(deep)
    assert KEY not in redact_text("[" * 100_000 + KEY)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_bytes_at_all_raise(body: bytes) -> None:
    """The trail takes whatever came."""
    redact_body(body)


@pytest.mark.parametrize("name", ["api_key_index", "public_key", "account_index", "nonce", "symbol", "assets"])
def test_names_that_only_sound_secret_are_kept(name: str) -> None:
    """An index of a key is no key."""
    assert not is_secret_name(name)
