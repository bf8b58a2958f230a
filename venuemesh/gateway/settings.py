"""Settings that every gateway has, whatever its venue; an adapter adds its accounts and habits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from venuemesh.crashpoints import CrashPoint
from venuemesh.gateway.account_snapshots import SnapshotSettings
from venuemesh.gateway.core import CoreSettings
from venuemesh.gateway.desk import DeskSettings
from venuemesh.gateway.link_settings import LinkSettings
from venuemesh.gateway.reconciler import ReconcilerSettings
from venuemesh.settings import Positive, ServiceSettings
from venuemesh.transport.environment import Environment, EnvironmentViolation, HostGuard
from venuemesh.v1 import venue_pb2

ENVIRONMENTS = {
    Environment.SIMULATOR: venue_pb2.ENVIRONMENT_SIMULATOR,
    Environment.TESTNET: venue_pb2.ENVIRONMENT_TESTNET,
    Environment.MAINNET: venue_pb2.ENVIRONMENT_MAINNET,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Where a venue is.

    Args:
        urls: origin of the HTTP interface by environment.
        testnet, mainnet: host names of each; no other is ever connected to there.
    """

    urls: Mapping[Environment, str]
    testnet: frozenset[str]
    mainnet: frozenset[str]


class VenueGatewaySettings(ServiceSettings):
    """What the frame needs to know; durations in seconds.

    Attributes:
        venue: name of the venue in the mesh.
        environment: which deployment this gateway may reach; nothing else is ever connected to.
        allow_mainnet: the explicit opt-in without which `mainnet` refuses to start.
        api_url: origin of the venue's HTTP interface; the environment's own when absent.
        order_expiry_s: how long a sent order may still be taken by the venue.
        action_timeout_s: most time to wait for the answer to an action.
        settle_delay_s: after the last moment an order could arrive, its absence is proof this much later.
        max_slippage_bps: worst price of a market order that names no bound.
        account_interval_s: least time between two pushes of balances and marks of one account.
        reconcile_period_s: between two comparisons of an account with the venue while its stream is live.
        retained_orders: terminal orders of an account kept in memory, some 6 kB each; older ones are in the journal.
        snapshot_events: an account's state is stored after so many events, so that a restart reads only those behind; 0
            for never.
        links: when a link counts as degraded, and whether orders are paused then.
        crash_point: where a test wants the process to die; the simulator only.
        crash_passes: how often it comes past there unharmed first.
    """

    hosts: ClassVar[Hosts]

    venue: str
    environment: Environment = Environment.SIMULATOR
    allow_mainnet: bool = False
    api_url: str | None = None
    order_expiry_s: Positive = 15.0
    action_timeout_s: Positive = 10.0
    settle_delay_s: Positive = 5.0
    max_slippage_bps: Annotated[int, Field(ge=1, le=5_000)] = 100
    account_interval_s: Positive = 1.0
    reconcile_period_s: Positive = 60.0
    retained_orders: Annotated[int, Field(ge=1)] = 10_000
    snapshot_events: Annotated[int, Field(ge=0)] = 20_000
    links: LinkSettings = Field(default_factory=LinkSettings)
    crash_point: CrashPoint = CrashPoint.NONE
    crash_passes: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _inside_environment(self) -> Self:
        if self.crash_point is not CrashPoint.NONE and self.environment is not Environment.SIMULATOR:
            raise ValueError("crash_point: only with the simulator")
        try:
            self.guard.check(self.url)
        except EnvironmentViolation as error:
            raise ValueError(error.message) from None
        return self

    @property
    def url(self) -> str:
        """Origin of the HTTP interface, without a trailing slash."""
        return (self.api_url or self.hosts.urls[self.environment]).rstrip("/")

    @property
    def guard(self) -> HostGuard:
        """Refuses every host outside the environment."""
        return HostGuard(
            environment=self.environment,
            testnet_hosts=self.hosts.testnet,
            mainnet_hosts=self.hosts.mainnet,
            allow_mainnet=self.allow_mainnet,
        )

    @property
    def core(self) -> CoreSettings:
        """Bounds and periods of the frame."""
        return CoreSettings(
            desk=DeskSettings(order_lifetime_s=self.order_expiry_s, max_slippage_bps=self.max_slippage_bps),
            reconciler=ReconcilerSettings(period_s=self.reconcile_period_s),
            links=self.links.watch,
            retained_orders=self.retained_orders,
            snapshots=SnapshotSettings(every_events=self.snapshot_events),
        )
