"""What the aggregator is told at its start."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, field_validator

from venuemesh.settings import GrpcSettings, OutgoingSettings, Positive, Section, ServiceSettings

AGGREGATOR_PORT = 50060
_ADDRESS = re.compile(r"[^=\s,]+:[0-9]{1,5}", re.ASCII)
_VENUE = re.compile(r"([a-z][a-z0-9_-]{0,31})=([^=\s,]+:[0-9]{1,5})", re.ASCII)


def _split_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class AggregatorGrpcSettings(GrpcSettings):
    """The aggregator's own server."""

    port: Annotated[int, Field(ge=0, le=65535)] = AGGREGATOR_PORT


class MarkSettings(Section):
    """Live marks."""

    interval_s: Positive = 0.1
    """Marks are taken into the portfolio at most this often, all together."""
    stream_interval_s: Positive = 0.25
    """Least time between two mark changes on a stream whose caller states none."""


class FoldSettings(Section):
    """The fold and its streams."""

    away_after_s: Positive = 5.0
    """The broker away for longer makes the service NOT_SERVING and the portfolio say so."""
    check_every_s: Positive = 0.5
    resume_window: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Log messages kept in memory for streams that resume."""
    max_views: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Different filters followed at once."""
    queue_capacity: Annotated[int, Field(ge=16, le=100_000)] = 2_000
    """Messages that may wait for one reader."""
    snapshots: bool = True
    """Whether a start begins at a snapshot, and snapshots are written. Without them it folds the whole log."""
    snapshot_every_s: Positive = 30.0
    snapshot_min_messages: Annotated[int, Field(ge=1)] = 5_000
    """A snapshot is written when so many messages were folded since the last one, at most so often."""


class AggregatorSettings(ServiceSettings):
    """`AGGREGATOR_NATS__URLS=nats://127.0.0.1:4222` and the rest by their keys.

    Live marks come from the gateways in `venues` (`name=host:port`, separated by commas), and for all other venues from
    the router at `router_address`. Without either, positions are valued at the mark of their last event.
    """

    env_prefix: ClassVar[str] = "AGGREGATOR_"

    grpc: AggregatorGrpcSettings = AggregatorGrpcSettings()
    venues: Annotated[tuple[str, ...], BeforeValidator(_split_commas)] = ()
    router_address: str | None = None
    marks: MarkSettings = MarkSettings()
    fold: FoldSettings = FoldSettings()
    outgoing: OutgoingSettings = OutgoingSettings()
    """How gateways and router are called for marks."""

    @field_validator("venues")
    @classmethod
    def _venue_addresses(cls, venues: tuple[str, ...]) -> tuple[str, ...]:
        for venue in venues:
            if not _VENUE.fullmatch(venue):
                raise ValueError("must be name=host:port, separated by commas")
        if len({venue.partition("=")[0] for venue in venues}) < len(venues):
            raise ValueError("must name each venue once")
        return venues

    @field_validator("router_address")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ValueError("must be host:port")
        return address

    @property
    def venue_addresses(self) -> dict[str, str]:
        """Address of each venue's gateway."""
        return {name: address for name, _, address in (venue.partition("=") for venue in self.venues)}
