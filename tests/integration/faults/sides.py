"""What the fault tests need of a venue: the gateway's adapter for it, ways to act there, and its truth in one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from simulator.faults import Fault, FaultPlan
from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from simulator.testing import running_simulator
from venuemesh.clock import Clock
from venuemesh.gateway.venue import Venue
from venuemesh.transport.backoff import BackoffPolicy
from venuemesh.transport.session import SocketConfig
from venuemesh.v1 import account_pb2

MAIN = "main"
SYMBOL = "ETH/USDC:USDC"
COIN = "ETH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault of a write.

    Attributes:
        fault: its `match` is put in by the test.
        effect: whether the request takes effect at the venue.
        lost: whether the caller gets no answer, so that nobody can know at first.
    """

    fault: Fault
    effect: bool
    lost: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueOrder:
    """One life of an order as the venue has it.

    Attributes:
        lived: whether it has ever been accepted; False for what the venue keeps of a refusal.
        exact: whether `filled` is the truth; the rows of some ended orders do not tell.
    """

    venue_order_id: str
    client_id: str
    price: Decimal
    quantity: Decimal
    filled: Decimal
    exact: bool
    open: bool
    lived: bool
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueFill:
    """A fill as the venue has it; positive is bought."""

    trade_id: str
    venue_order_id: str
    client_id: str
    quantity: Decimal


class VenueSide(Protocol):
    """One kind of venue in the fault tests. `simulator` is there once the world has begun."""

    name: str
    # What the simulator calls the venue's requests and frames.
    order: str
    cancel: str
    amend: str
    account_channels: Sequence[str]
    # Those that begin a new subscription with what happened before it.
    replaying_channels: Sequence[str]
    look_ups: Sequence[str]
    state_reads: Mapping[str, str]
    # Faults in words of the venue's own.
    own_cases: Mapping[str, Case]
    amend_changes_id: bool
    # What an order is refused with that arrives after its expiry.
    expired_reason: str
    simulator: Simulator

    @property
    def faults(self) -> FaultPlan:
        """The rules in force."""

    def simulator_settings(self) -> SimulatorSettings:
        """A still venue with the account."""

    def build(self, folder: Path, clock: Clock, *, socket: SocketConfig, **settings: Any) -> Venue:
        """The adapter."""

    def use_http(self) -> None:
        """From here on writes go over HTTP: the socket says that it cannot send."""

    def offer(self, *, bid: str = "", ask: str = "", size: str = "5") -> None:
        """Put house orders into the book."""

    def cancel_house_orders(self) -> None:
        """Take them out again."""

    def end_order(self, venue_order_id: str) -> None:
        """The venue cancels an order of ours, and tells whoever listens now."""

    def orders(self) -> Sequence[TrueOrder]:
        """Every order of the account."""

    def fills(self) -> Sequence[TrueFill]:
        """Every fill of the account."""

    def balances(self) -> Sequence[account_pb2.Balance]:
        """The account's money, without a request, so that none is counted."""

    def cut_sockets(self) -> int:
        """Cut every connection; how many."""

    async def close_sockets(self) -> None:
        """End every connection politely, with close code 1000."""

    def fall_silent(self, seconds: float) -> None:
        """Send nothing for so long."""

    def revoke_key(self) -> None:
        """The key that the gateway signs with is no longer good."""

    def restore_key(self) -> None:
        """It is good again."""


def quick_socket(*, silence_s: float = 40.0, heartbeat_s: float = 15.0) -> SocketConfig:
    """A socket that reconnects at once."""
    return SocketConfig(
        backoff=BackoffPolicy(initial_s=0.01, cap_s=0.05),
        silence_timeout_s=silence_s,
        heartbeat_interval_s=heartbeat_s,
    )


async def restart(side: VenueSide, stack: AsyncExitStack) -> None:
    """The venue's process ends and another begins at the same addresses, which knows nothing of the past."""
    old = side.simulator
    ports = {"hyperliquid_port": int(old.url.rsplit(":", 1)[1]), "lighter_port": old.lighter.port}
    await stack.aclose()
    side.simulator = await stack.enter_async_context(running_simulator(old.settings.model_copy(update=ports)))
