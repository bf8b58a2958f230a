"""Settings of the quality of a gateway's links, the same for every venue."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from venuemesh.gateway.link_watch import LinkWatchSettings
from venuemesh.settings import NotNegative, Section
from venuemesh.transport.quality import QualityPolicy

Share = Annotated[float, Field(ge=0, le=1)]


class LinkSettings(Section):
    """When a link counts as degraded, and what follows; a limit of 0 switches its rule off.

    Attributes:
        max_error_rate: most failed requests of all in the last minute, as a share ...
        min_requests: ... judged when there are at least this many.
        max_latency_s: highest median round trip in the last minute.
        max_reconnections: most reconnections in the last minute.
        recover_ratio: share of every limit that a link must stay below to be good again ...
        recover_after_s: ... for this long without a break.
        pause_orders: refuse new orders and amendments while a link they go over is degraded; cancels pass.
    """

    max_error_rate: Share = 0.2
    min_requests: Annotated[int, Field(ge=1)] = 10
    max_latency_s: NotNegative = 2.0
    max_reconnections: Annotated[int, Field(ge=0)] = 3
    recover_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    recover_after_s: NotNegative = 30.0
    pause_orders: bool = False

    @property
    def policy(self) -> QualityPolicy:
        """The limits as links are judged by."""
        return QualityPolicy(
            max_error_rate=self.max_error_rate or None,
            min_requests=self.min_requests,
            max_latency_s=self.max_latency_s or None,
            max_reconnections=self.max_reconnections or None,
            recover_ratio=self.recover_ratio,
            recover_after_s=self.recover_after_s,
        )

    @property
    def watch(self) -> LinkWatchSettings:
        """What the gateway does about it."""
        return LinkWatchSettings(pause_orders=self.pause_orders)
