"""What a server holds its callers to, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor

from venuemesh.security.authority import Authority


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """What the interceptor holds calls to.

    Args:
        max_message_bytes: of one request message.
        default_deadline_s: bound of a unary call without a deadline.
        deadlines_s: the same for single methods, by full name (`/package.Service/Method`).
        reads: full names of methods without side effects; running out of time on any other is OUTCOME_UNKNOWN.
        safety: full names of methods that make things safer; ordinary calls do not use up their rate.
        authority: who callers are; every call but health checks is held to its grant. None admits all.
        scopes: what a method needs, by full name; a method without one is refused where there is an authority.
        request_types: descriptors of requests by full name, for callers limited to accounts or venues.
        own_venue: the venue that an empty venue field means here; "" where it means all.
    """

    max_message_bytes: int = 4 * 1024**2
    default_deadline_s: float = 10.0
    deadlines_s: Mapping[str, float] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()
    safety: frozenset[str] = frozenset()
    authority: Authority | None = None
    scopes: Mapping[str, int] = field(default_factory=dict)
    request_types: Mapping[str, Descriptor] = field(default_factory=dict)
    own_venue: str = ""
