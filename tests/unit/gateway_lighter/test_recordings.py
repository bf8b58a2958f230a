"""Every recorded payload parses into its type or is a typed refusal; a new kind of file fails here, by name."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter.codec import ENDPOINTS, parse_answer, parse_refusal
from gateway_lighter.codec_frames import DataFrame, UnknownFrame, UnreadableData, UnreadableReply, parse_frame
from gateway_lighter.refusals import RefusalMeaning
from tests.unit.gateway_lighter.support import encode, needs_recordings, recording, recording_names
from venuemesh.errors import ProtocolViolation

pytestmark = needs_recordings

REST, WS = recording_names("rest_"), recording_names("ws_")
OTHERS = ("flow_", "signing_", "error_codes")
NUMBER = r'(?<![\w.])"?(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"?(?![\w.])'


def endpoint_of(name: str) -> str:
    """`rest_deposit_history.json` is deposit/history."""
    stem = name.removeprefix("rest_").split(".")[0]
    found = stem if stem in ENDPOINTS else stem.replace("_", "/")
    assert found in ENDPOINTS, f"{name} is of an endpoint nobody types"
    return found


def body_of(name: str) -> Any:
    """The body, taken out of an envelope that only adds the HTTP status."""
    loaded = recording(name)
    return loaded["body"] if isinstance(loaded, dict) and "http_status" in loaded else loaded


def frames_of(name: str) -> list[Any]:
    """The frames of a recording, in order."""
    loaded = recording(name)
    return loaded if isinstance(loaded, list) else [loaded]


def read(name: str, raw: bytes) -> Any:
    """What a REST body is."""
    return parse_refusal(raw) or parse_answer(endpoint_of(name), raw)


def decimals_of(value: object) -> list[Decimal]:
    """All decimals in a typed value."""
    if isinstance(value, Decimal):
        return [value]
    if isinstance(value, msgspec.Struct):
        return [d for name in value.__struct_fields__ for d in decimals_of(getattr(value, name))]
    if isinstance(value, dict):
        return [d for child in value.values() for d in decimals_of(child)]
    if isinstance(value, (tuple, list)):
        return [d for child in value for d in decimals_of(child)]
    return []


def test_every_recording_is_of_a_kind_some_test_handles() -> None:
    """Nothing in the folder is skipped in silence."""
    strangers = [name for name in recording_names("") if not name.startswith(("rest_", "ws_", *OTHERS))]
    assert strangers == []


@pytest.mark.parametrize("name", REST)
def test_recorded_answer_parses_or_is_a_recognized_refusal(name: str) -> None:
    """No KeyError, no unknown code."""
    found = read(name, encode(body_of(name)))
    if isinstance(found, RefusalMeaning):
        assert found.recognized and found.definitive


@pytest.mark.parametrize("name", WS)
def test_recorded_frame_parses_into_its_type(name: str) -> None:
    """No unknown frame, none unreadable."""
    for one in frames_of(name):
        assert not isinstance(parse_frame(encode(one)), UnknownFrame | UnreadableData | UnreadableReply)


@pytest.mark.parametrize("name", REST + WS)
def test_recording_keeps_every_decimal_to_the_last_digit(name: str) -> None:
    """Each decimal in the typed value is written in the recording with exactly those digits."""
    for one in frames_of(name) if name in WS else [body_of(name)]:
        raw = encode(one)
        digits = {Decimal(text).as_tuple() for text in re.findall(NUMBER, raw.decode())}
        if name in WS:
            frame = parse_frame(raw)
            parsed = frame.body if isinstance(frame, DataFrame) else None
        else:
            parsed = read(name, raw)
        defaults = {Decimal(0).as_tuple(), Decimal(1).as_tuple()}
        assert {value.as_tuple() for value in decimals_of(parsed)} <= digits | defaults


def corrupt(value: Any, rng: Any, depth: int = 0) -> Any:
    """Replace, somewhere in a JSON value, one part by something of another type."""
    if isinstance(value, dict) and value and depth < 6 and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        return {**value, key: corrupt(value[key], rng, depth + 1)}
    if isinstance(value, list) and value and depth < 6 and rng.random() < 0.85:
        place = rng.randrange(len(value))
        return [*value[:place], corrupt(value[place], rng, depth + 1), *value[place + 1 :]]
    return rng.choice([None, 1.5, -1, True, "text", "NaN", "Infinity", "1_0", [], {}, [[]], {"a": 1}])


@given(name=st.sampled_from(REST + WS or [""]), rng=st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_corrupted_recording_parses_or_is_a_typed_error(name: str, rng: Any) -> None:
    """Whatever part is damaged, the only error is ProtocolViolation, and no amount is NaN or infinite."""
    whole = rng.choice(frames_of(name)) if name in WS else body_of(name)
    raw = encode(corrupt(whole, rng))
    try:
        found = parse_frame(raw) if name in WS else read(name, raw)
    except ProtocolViolation as refused:
        assert refused.metadata["payload"]
        return
    parsed = found.body if isinstance(found, DataFrame) else found
    assert all(value.is_finite() for value in decimals_of(parsed))


@given(name=st.sampled_from(REST + WS or [""]), cut=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_truncated_recording_is_a_typed_error(name: str, cut: float) -> None:
    """A payload cut anywhere is refused, never half read."""
    raw = json.dumps(frames_of(name)[0] if name in WS else body_of(name)).encode()
    short = raw[: int(cut * (len(raw) - 1))]
    with pytest.raises(ProtocolViolation):
        if name in WS:
            parse_frame(short)
        else:
            read(name, short)
