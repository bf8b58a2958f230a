"""The mesh's rules for routing: one record in a JetStream bucket, changed by compare-and-set, followed by every router.

Until somebody changes it, the policy of the configuration is in force. While the broker is away the last one known is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from google.protobuf.message import DecodeError

from router.instructions import check_policy
from venuemesh.bus import Bus, SubjectTaken
from venuemesh.cancellation import end_if_cancelled
from venuemesh.errors import JournalUnavailable, MeshError, Reason, VersionConflict
from venuemesh.follower import StoredMessage
from venuemesh.subjects import ROUTING_POLICY_KEY, ROUTING_STREAM
from venuemesh.v1 import routing_pb2

log = logging.getLogger(__name__)

RETRY_WAIT_S = 0.25


class PolicyStore:
    """The policy in force.

    Args:
        first: in force until there is a record.
        venues: names that `excluded_venues` may hold.
    """

    def __init__(self, bus: Bus, first: routing_pb2.RoutingPolicy, venues: Collection[str]) -> None:
        self._bus = bus
        self._first = first
        self._venues = venues
        self._current = first

    @property
    def current(self) -> routing_pb2.RoutingPolicy:
        """The policy as last heard; not to be changed."""
        return self._current

    async def run(self) -> None:
        """Follow the record until cancelled."""
        after = 0
        while True:
            try:
                async with self._bus.follow(ROUTING_STREAM, [ROUTING_POLICY_KEY], after=after) as follower:
                    async for message in follower:
                        self._take(_policy(message))
                        after = message.sequence
            except JournalUnavailable as error:
                end_if_cancelled()
                log.info("routing_policy_away", extra={"error": error.message})
                await asyncio.sleep(RETRY_WAIT_S)

    def _take(self, policy: routing_pb2.RoutingPolicy) -> None:
        if policy.version > self._current.version:
            self._current = policy
            log.warning("routing_policy_changed", extra={"version": policy.version})

    async def read(self) -> routing_pb2.RoutingPolicy:
        """The policy as the broker has it now.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        stored = await self._bus.last(ROUTING_STREAM, ROUTING_POLICY_KEY)
        if stored is not None:
            self._take(_policy(stored))
        return self._current

    async def update(self, wanted: routing_pb2.RoutingPolicy) -> routing_pb2.RoutingPolicy:
        """Put `wanted` in force under the next version.

        Raises:
            InvalidRequest, VenueNotFound: a rule nobody could route by.
            VersionConflict: `wanted.version` is not the one in force.
            JournalUnavailable: the broker did not confirm.
        """
        check_policy(wanted, self._venues)
        stored = await self._bus.last(ROUTING_STREAM, ROUTING_POLICY_KEY)
        in_force = self._first if stored is None else _policy(stored)
        if wanted.version != in_force.version:
            raise _conflict(wanted, in_force)
        following = routing_pb2.RoutingPolicy()
        following.CopyFrom(wanted)
        following.version = in_force.version + 1
        last = 0 if stored is None else stored.sequence
        try:
            await self._bus.append_after(ROUTING_POLICY_KEY, following.SerializeToString(), last)
        except SubjectTaken:
            raise _conflict(wanted, await self.read()) from None
        self._take(following)
        return following


def _conflict(wanted: routing_pb2.RoutingPolicy, in_force: routing_pb2.RoutingPolicy) -> VersionConflict:
    return VersionConflict(
        f"policy.version: {wanted.version} is not in force, {in_force.version} is",
        field="policy.version",
        metadata={"version": str(in_force.version)},
    )


def _policy(message: StoredMessage) -> routing_pb2.RoutingPolicy:
    try:
        return routing_pb2.RoutingPolicy.FromString(message.payload)
    except DecodeError:
        raise MeshError("the routing policy cannot be read", reason=Reason.INTERNAL) from None
