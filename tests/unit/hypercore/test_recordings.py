"""Every recorded payload parses into its type; a kind of recording nobody handles fails here, by name."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore.codec import INFO_TYPES, parse_info
from hypercore.exchange_codec import Accepted, Refused, UnknownStatus, parse_exchange_answer
from hypercore.frames import DataFrame, InfoReply, UnknownFrame, UnreadablePostReply, parse_frame
from tests.unit.hypercore.support import body, needs_recordings, recording, recording_names
from venuemesh.errors import ProtocolViolation

pytestmark = needs_recordings

ALL = recording_names()
NUMBER = r'"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"'


def info_type_of(name: str) -> str:
    """The request type: from the recorded request, else from the file's name."""
    request = recording(name).get("request")
    if isinstance(request, dict):
        return str(request["type"])
    found = [part for part in re.split(r"[_.]", name) if part in INFO_TYPES]
    assert found, f"no request type for {name}"
    return found[0]


def decimals_and_texts(value: object) -> list[Decimal]:
    """All decimals in a typed value."""
    if isinstance(value, Decimal):
        return [value]
    if isinstance(value, msgspec.Struct):
        return [d for name in value.__struct_fields__ for d in decimals_and_texts(getattr(value, name))]
    if isinstance(value, dict):
        return [d for child in value.values() for d in decimals_and_texts(child)]
    if isinstance(value, (tuple, list)):
        return [d for child in value for d in decimals_and_texts(child)]
    return []


def check(name: str) -> object:
    """Parse one recording by its kind and return what came out."""
    envelope = recording(name)
    kind = envelope.get("kind", "vectors" if "l1" in envelope else None)
    if kind == "http_info":
        info_type = info_type_of(name)
        if info_type in INFO_TYPES:
            return parse_info(info_type, body(name))
        with pytest.raises(ProtocolViolation):  # a request no gateway makes: refused by name
            parse_info(info_type, body(name))
        return None
    if kind == "http_exchange":
        return parse_exchange_answer(body(name))
    if kind == "ws_frame":
        return parse_frame(body(name))
    if kind == "http_exchange_pairs":
        return [parse_exchange_answer(json.dumps(pair["response"]).encode()) for pair in envelope["pairs"]]
    assert kind == "vectors", f"{name} is of a kind no test handles: {kind}"
    return envelope


@pytest.mark.parametrize("name", ALL)
def test_recording_parses_into_its_type(name: str) -> None:
    """No KeyError, no unknown frame, no unknown status, nothing skipped."""
    parsed = check(name)
    assert not isinstance(parsed, UnknownFrame | UnreadablePostReply)
    for answer in parsed if isinstance(parsed, list) else [parsed]:
        if isinstance(answer, Accepted):
            assert not [status for status in answer.statuses if isinstance(status, UnknownStatus)]
        if isinstance(answer, Refused):
            assert answer.meaning.recognized
    if isinstance(parsed, InfoReply):
        parse_info(parsed.info_type, parsed.data)


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith(("info_", "ws_"))])
def test_recording_keeps_every_decimal_to_the_last_digit(name: str) -> None:
    """Each decimal in the typed value is written in the recording with exactly those digits."""
    digits = {Decimal(text).as_tuple() for text in re.findall(NUMBER, body(name).decode())}
    parsed = check(name)
    found = decimals_and_texts(parsed.data if isinstance(parsed, DataFrame) else parsed)
    assert {value.as_tuple() for value in found} <= digits | {Decimal(0).as_tuple()}


def corrupt(value: Any, rng: Any, depth: int = 0) -> Any:
    """Replace, somewhere in a JSON value, one part by something of another type."""
    if isinstance(value, dict) and value and depth < 6 and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        return {**value, key: corrupt(value[key], rng, depth + 1)}
    if isinstance(value, list) and value and depth < 6 and rng.random() < 0.85:
        place = rng.randrange(len(value))
        return [*value[:place], corrupt(value[place], rng, depth + 1), *value[place + 1 :]]
    return rng.choice([None, 1.5, -1, True, "text", "NaN", [], {}, [[]], {"a": 1}])


PAYLOADS = {"http_info", "http_exchange", "ws_frame"}
SMALL = [name for name in ALL if recording(name).get("kind") in PAYLOADS and len(body(name)) < 20_000]


@given(name=st.sampled_from(SMALL or [""]), rng=st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_corrupted_recording_parses_or_is_a_typed_error(name: str, rng: Any) -> None:
    """Whatever part is damaged, the only error is ProtocolViolation, and it keeps the payload."""
    envelope = recording(name)
    kind = envelope["kind"]
    whole = corrupt(envelope["frame"] if kind == "ws_frame" else envelope["response"], rng)
    raw = json.dumps(whole).encode()
    try:
        if kind == "http_info":
            parsed = parse_info(info_type_of(name), raw)
        else:
            parsed = parse_frame(raw) if kind == "ws_frame" else parse_exchange_answer(raw)
    except ProtocolViolation as refused:
        assert refused.metadata["payload"]
    else:
        assert all(value.is_finite() for value in decimals_and_texts(parsed))


@given(name=st.sampled_from(SMALL or [""]), cut=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_truncated_recording_is_a_typed_error(name: str, cut: float) -> None:
    """A payload cut anywhere is refused, never half read."""
    kind = recording(name)["kind"]
    raw = body(name)
    short = raw[: int(cut * (len(raw) - 1))]
    with pytest.raises(ProtocolViolation):
        if kind == "http_info":
            parse_info(info_type_of(name), short)
        elif kind == "ws_frame":
            parse_frame(short)
        else:
            parse_exchange_answer(short)
