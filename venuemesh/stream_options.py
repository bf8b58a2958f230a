"""What the caller of a stream may wish, checked: heartbeat, slow-reader policy, sampling, resume position."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from venuemesh.errors import InvalidRequest, Reason
from venuemesh.v1 import stream_pb2

HEARTBEAT_MS = 5_000
MIN_HEARTBEAT_MS = 1_000
MAX_HEARTBEAT_MS = 30_000
MAX_SAMPLE_INTERVAL_MS = 60_000


class Policy(Enum):
    """What happens when the reader is slower than its messages; values are those of the contract."""

    EVERY_EVENT = stream_pb2.SLOW_READER_POLICY_EVERY_EVENT
    CONFLATE_LATEST = stream_pb2.SLOW_READER_POLICY_CONFLATE_LATEST
    SAMPLE = stream_pb2.SLOW_READER_POLICY_SAMPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRules:
    """What one streaming method allows.

    Args:
        default: the policy when the caller states none.
        conflation: whether CONFLATE_LATEST and SAMPLE are allowed.
        sampled_marks: whether `sample_interval_ms` is allowed under EVERY_EVENT, for states riding beside events.
    """

    default: Policy = Policy.EVERY_EVENT
    conflation: bool = False
    sampled_marks: bool = False


EVENTS = StreamRules()
"""Orders, fills, balances, positions: nothing is ever left out."""
PRICES = StreamRules(default=Policy.CONFLATE_LATEST, conflation=True)
"""Books, tops of book, statistics, candles."""
EVENTS_WITH_MARKS = StreamRules(sampled_marks=True)
"""A portfolio: every event, and marks at a rate the caller sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTerms:
    """The wishes in force. `resume_after` is the caller's position as it came, not yet judged."""

    policy: Policy = Policy.EVERY_EVENT
    heartbeat_s: float = HEARTBEAT_MS / 1_000
    sample_interval_s: float | None = None
    resume_epoch: str = ""
    resume_after: int | None = None

    @property
    def queue_interval_s(self) -> float | None:
        """`interval_s` of the reader's `StreamQueue`."""
        if self.policy is Policy.EVERY_EVENT:
            return self.sample_interval_s
        return 0.0 if self.policy is Policy.CONFLATE_LATEST else self.sample_interval_s


def parse_stream_options(
    options: stream_pb2.StreamOptions, rules: StreamRules, *, field: str = "options"
) -> StreamTerms:
    """Check `options` against the method's `rules`.

    Args:
        field: path of the options in the request, for errors.
    Raises:
        InvalidRequest: names the field and the rule it breaks.
    """
    policy = _policy(options, rules, field)
    resume = options.resume_after if options.HasField("resume_after") else None
    return StreamTerms(
        policy=policy,
        heartbeat_s=_heartbeat_ms(options, field) / 1_000,
        sample_interval_s=_sample_interval_s(options, policy, rules, field),
        resume_epoch=resume.epoch if resume is not None else "",
        resume_after=resume.sequence if resume is not None else None,
    )


def _policy(options: stream_pb2.StreamOptions, rules: StreamRules, field: str) -> Policy:
    number = options.slow_reader_policy
    if number == stream_pb2.SLOW_READER_POLICY_UNSPECIFIED:
        return rules.default
    path = f"{field}.slow_reader_policy"
    try:
        policy = Policy(number)
    except ValueError:
        raise InvalidRequest(f"{path}: {number} is no policy", field=path) from None
    if policy is not Policy.EVERY_EVENT and not rules.conflation:
        raise InvalidRequest(f"{path}: {policy.name} is refused on this stream: every event counts", field=path)
    return policy


def _heartbeat_ms(options: stream_pb2.StreamOptions, field: str) -> int:
    if not options.HasField("heartbeat_interval_ms"):
        return HEARTBEAT_MS
    value = options.heartbeat_interval_ms
    if not MIN_HEARTBEAT_MS <= value <= MAX_HEARTBEAT_MS:
        path = f"{field}.heartbeat_interval_ms"
        raise InvalidRequest(f"{path}: {value} is not within {MIN_HEARTBEAT_MS} to {MAX_HEARTBEAT_MS}", field=path)
    return value


def _sample_interval_s(
    options: stream_pb2.StreamOptions, policy: Policy, rules: StreamRules, field: str
) -> float | None:
    path = f"{field}.sample_interval_ms"
    if not options.HasField("sample_interval_ms"):
        if policy is Policy.SAMPLE:
            raise InvalidRequest(f"{path}: is required with SAMPLE", reason=Reason.REQUIRED_FIELD_MISSING, field=path)
        return None
    value = options.sample_interval_ms
    if policy is not Policy.SAMPLE and not (policy is Policy.EVERY_EVENT and rules.sampled_marks):
        raise InvalidRequest(
            f"{path}: means nothing with {policy.name} here", reason=Reason.CONTRADICTORY_FIELDS, field=path
        )
    if not 1 <= value <= MAX_SAMPLE_INTERVAL_MS:
        raise InvalidRequest(f"{path}: {value} is not within 1 to {MAX_SAMPLE_INTERVAL_MS}", field=path)
    return value / 1_000
