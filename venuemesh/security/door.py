"""What a caller passes before a method serves it: identity, scope, limits, and the time its permission lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from venuemesh.clock import Clock
from venuemesh.errors import AuthenticationFailed
from venuemesh.limits import CallerLimits
from venuemesh.security.authority import Authority
from venuemesh.security.grants import Grant, set_current, time_text
from venuemesh.security.passing import set_caller_token
from venuemesh.security.requests import RequestRules

_CERTIFICATE_NAMES = "x509_subject_alternative_name"


@dataclass(frozen=True, slots=True)
class Door:
    """The way into one method.

    Args:
        scope: what the method needs; 0 closes it to everybody.
        rules: where its requests name accounts and venues; None where they never do.
        own_venue: what an empty venue means here; "" where it means all.
        callers: where wrong tokens are counted.
    """

    method: str
    scope: int
    rules: RequestRules | None
    own_venue: str
    authority: Authority
    callers: CallerLimits
    clock: Clock

    def admit(self, host: str, now_s: float, authorization: str | None, context: Any) -> Grant:
        """Identify the caller and hold it to scope and method; its grant and token then go with the call.

        Args:
            host: the caller's address, whose wrong tokens are bounded.
            context: gRPC's, for the certificate of the connection.
        Raises:
            AuthenticationFailed, PermissionDenied: see `Authority.identify` and `Grant.require`.
            RateLimited: too much that was wrong came from this address.
        """
        self.callers.admit_identification(host, now_s)
        names = context.auth_context().get(_CERTIFICATE_NAMES, ())
        try:
            grant = self.authority.identify(authorization, [name.decode(errors="replace") for name in names])
            grant.require(self.method, self.scope, self.clock.now_ns())
        except AuthenticationFailed:
            self.callers.identification_failed(host, now_s)
            raise
        set_current(grant)
        set_caller_token(authorization)
        return grant


def permit(door: Door | None, grant: Grant | None, request: Any) -> Any:
    """The request, once it is known to stay within what the caller is limited to. Raises PermissionDenied."""
    if door is not None and grant is not None and grant.limited and door.rules is not None:
        door.rules.require(grant, request, door.own_venue)
    return request


@asynccontextmanager
async def while_granted(grant: Grant | None, clock: Clock) -> AsyncIterator[None]:
    """End a stream when its caller's token expires: a long-lived one must not outlive its permission.

    Raises:
        AuthenticationFailed: it has.
    """
    expires_ns = None if grant is None else grant.expires_ns
    if expires_ns is None:
        yield
        return
    try:
        async with asyncio.timeout((expires_ns - clock.now_ns()) / 1e9) as scope:
            yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise AuthenticationFailed(
            "the token has expired: resume with a new one", metadata={"expired": time_text(expires_ns)}
        ) from None
