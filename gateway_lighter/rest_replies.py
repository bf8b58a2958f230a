"""HTTP answers of Lighter that are no success, as the errors they amount to.

Source: venue reference sections 2 and 12.
"""

from __future__ import annotations

from typing import Final

from gateway_lighter.codec import RAW_KEPT
from gateway_lighter.refusals import RefusalMeaning
from venuemesh.errors import (
    AuthenticationFailed,
    InvalidRequest,
    MeshError,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    Reason,
    Sent,
    VenueUnavailable,
)
from venuemesh.transport.rest import RestReply

_FORBIDDEN: Final = frozenset({401, 403})
# Answers of a hop that did not pass the request on; any other 4xx may come from behind the venue's API.
_UNREAD: Final = frozenset({400, 404, 411, 413, 414, 415, 422})


def succeeded(reply: RestReply) -> bool:
    """Whether HTTP says so."""
    return 200 <= reply.status < 300


def refused_unread(reply: RestReply, endpoint: str, *, write: bool) -> MeshError:
    """A 4xx without the venue's own code."""
    text = reply.body[:RAW_KEPT].decode("utf-8", errors="replace")
    message = f"{endpoint or 'status'}: status {reply.status}: {text[:200]}"
    metadata = {"http_status": str(reply.status), "payload": text}
    if reply.status in _FORBIDDEN:
        return AuthenticationFailed(message, sent=Sent.YES, metadata=metadata)
    if reply.status in _UNREAD:
        return InvalidRequest(message, sent=Sent.YES, metadata=metadata)
    if write:
        return OutcomeUnknown(message, metadata=metadata)
    return ProtocolViolation(message, sent=Sent.YES, metadata=metadata)


def read_refused(meaning: RefusalMeaning, endpoint: str) -> MeshError:
    """A refused read, as the error it amounts to."""
    message, metadata = f"{endpoint}: {meaning.text}", {"venue_code": str(meaning.code)}
    if meaning.reason is Reason.AUTHENTICATION_FAILED:
        return AuthenticationFailed(message, sent=Sent.YES, metadata=metadata)
    if meaning.reason in (Reason.RATE_LIMIT_VENUE, Reason.TOO_MANY_STREAMS):
        return RateLimited(
            message, reason=meaning.reason, sent=Sent.YES, retry_after_s=meaning.retry_after_s, metadata=metadata
        )
    if not meaning.definitive:
        return VenueUnavailable(message, reason=Reason.VENUE_UNAVAILABLE, sent=Sent.YES, metadata=metadata)
    return InvalidRequest(message, reason=meaning.reason, sent=Sent.YES, metadata=metadata)
