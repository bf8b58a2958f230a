"""What the router is told at its start: which venues there are, where, and how it treats them."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from router.breaker import BreakerRules
from router.instructions import MAX_HORIZON_S
from router.views import ASSUMED_FEE_RATE, DEFAULT_HORIZON_S
from venuemesh.settings import GrpcSettings, Names, NotNegative, OutgoingSettings, Positive, Section, ServiceSettings

ROUTER_PORT = 50050
_VENUE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_ADDRESS = re.compile(r"[^=\s,]+:[0-9]{1,5}", re.ASCII)


Ratio = Annotated[float, Field(gt=0, le=1)]


class BreakerSettings(Section):
    """When a venue gets no new orders because its calls fail; see `router.breaker.BreakerRules`."""

    window_s: Positive = 30.0
    """How far back calls are counted."""
    min_calls: Annotated[int, Field(ge=1)] = 10
    """Of fewer calls no rate of failures or slow calls is taken."""
    failure_ratio: Ratio = 0.5
    """Opens at this share of failed calls."""
    min_timeouts: Annotated[int, Field(ge=1)] = 3
    """Of fewer time-outs no rate is taken."""
    timeout_ratio: Ratio = 0.25
    """Opens at this share of calls that nobody answered."""
    timeouts_in_row: Annotated[int, Field(ge=1)] = 5
    """Opens at so many such calls with none answered between them."""
    slow_ratio: Ratio = 0.8
    """Opens at this share of slow calls."""
    slow_s: Positive = 1.0
    """A call of this length is slow."""
    min_timeout_s: NotNegative = 0.5
    """A time-out counts if the call was given at least this long."""
    open_s: Positive = 5.0
    """Time before the first test; doubles each time a test fails."""
    open_cap_s: Positive = 15.0
    """Longest time before a test."""
    probes: Annotated[int, Field(ge=1)] = 3
    """Orders of a test; all must go well."""
    reads_pass: bool = True
    """Whether reads pass while it is open. Cancels, amendments and repeats of known orders always do."""

    @property
    def rules(self) -> BreakerRules:
        """The same as the breaker takes it."""
        return BreakerRules(**self.model_dump(exclude={"reads_pass"}))


class GatewaySettings(OutgoingSettings):
    """How gateways are called; one channel per venue."""

    reserve_s: NotNegative = 0.1
    """Kept back from the caller's deadline on every hop."""
    min_submit_s: Positive = 0.05
    """A submit that could give its gateway less than this is refused before it is sent."""
    connect_wait_s: NotNegative = 0.25
    """How long a submit waits for a channel that is still connecting."""
    max_submits: Annotated[int, Field(ge=1)] = 256
    """Submits and amendments in flight to one venue; a further one is refused at once."""
    max_cancels: Annotated[int, Field(ge=1)] = 1_024
    """Cancels and other calls that make things safer in flight to one venue, beside its submits and reads."""
    max_reads: Annotated[int, Field(ge=1)] = 256
    """Reads in flight to one venue."""
    default_timeout_s: Positive = 5.0
    """Bound of a call that inherits no deadline."""
    cancel_retries: Annotated[int, Field(ge=0, le=10)] = 4
    read_retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_initial_s: Positive = 0.05
    retry_cap_s: Positive = 0.2
    read_retry_percent: Annotated[int, Field(ge=0, le=100)] = 20
    """Repeated reads per hundred reads of a venue, beyond `retry_burst`."""
    cancel_retry_percent: Annotated[int, Field(ge=0, le=400)] = 100
    """Repeated cancels per hundred cancels of a venue, beyond `retry_burst`; reads never use them up."""
    retry_burst: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Repeats of each kind that may be saved up while all goes well."""
    hedge_after_s: NotNegative = 0.1
    """A quick read without an answer after this time is asked a second time; 0 never does."""
    hedge_percent: Annotated[int, Field(ge=0, le=4)] = 4
    """Second readings per hundred reads of a venue."""
    locate_timeout_s: Positive = 0.5
    """Bound of asking one venue whether it has an order, so that a hung one does not hold a cancel."""
    refresh_s: Positive = 30.0
    """Between two readings of a venue's capabilities and instruments."""
    reconnect_cap_s: Positive = 5.0
    """Longest wait before a watch is opened again."""
    breaker: BreakerSettings = BreakerSettings()


class BookSettings(Section):
    """The books that decisions are made on."""

    max_age_s: Positive = 10.0
    """A book older than this is left out."""
    max_distance_bps: Annotated[int, Field(ge=1, le=10_000)] = 200
    """A book of three or more whose middle is further from the median is left out of the consolidated book."""
    fetch_timeout_s: Positive = 0.25
    """Bound of the one reading made when no live book is there yet."""
    depth: Annotated[int, Field(ge=1, le=1_000)] = 20
    max_feeds: Annotated[int, Field(ge=1, le=1_000)] = 256
    """Books followed at once over all venues; the one used least recently makes room."""
    idle_s: Positive = 300.0
    """A book that no decision used for this long is no longer followed."""
    heartbeat_ms: Annotated[int, Field(ge=1_000, le=30_000)] = 1_000


class RiskSettings(Section):
    """How risk is judged; the limits themselves are set at run time through RiskService."""

    checks: tuple[str, ...] = ()
    """Checks of the operator's own, each as `package.module:name` of a factory without arguments."""
    heartbeat_ms: Annotated[int, Field(ge=1_000, le=30_000)] = 1_000
    """Asked of the streams that risk is judged on; after three without a word the view is stale."""
    reconnect_cap_s: Positive = 2.0
    """Longest wait before such a stream is opened again."""
    load_wait_s: NotNegative = 1.0
    """How long an order waits for limits that have not been read since the start."""
    mark_wait_s: Positive = 0.25
    """How long an order waits for the first mark of its symbol."""
    mark_review_s: Positive = 0.25
    """Between two looks at which marks are needed."""
    mark_idle_s: Positive = 300.0
    """A mark that nobody holds or asked for so long is no longer followed."""
    max_marks: Annotated[int, Field(ge=1)] = 256
    """Symbols followed for orders alone; the one asked for longest ago makes room."""
    grace_s: Positive = 10.0
    """After a submit's deadline, before its gateway is asked what became of an order nobody has shown."""
    settle_s: Positive = 1.0
    """Between two looks for such orders."""
    kill_retry_s: Positive = 1.0
    """Between two attempts to finish a kill switch at a venue."""
    breach_event_s: NotNegative = 1.0
    """A limit that refuses orders is told as an event at most this often."""

    @field_validator("checks", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class FactSettings(Section):
    """Fee rates and funding, which costs are made of beside the books."""

    fetch_timeout_s: Positive = 0.25
    """Bound of one reading, and of how long the first decision about a venue waits for it."""
    fee_refresh_s: Positive = 300.0
    """Fee rates are read again after this time, and count as not known after three times as long."""
    funding_refresh_s: Positive = 30.0
    """The same for funding rates."""
    max_entries: Annotated[int, Field(ge=1, le=100_000)] = 4_096
    """Rates kept of each kind; the one used least recently makes room."""
    assumed_fee_rate: Annotated[Decimal, Field(ge=0, le=1)] = ASSUMED_FEE_RATE
    """What a venue that does not tell its fees is taken to charge, as a fraction of notional."""


class RoutingSettings(Section):
    """The routing policy until somebody changes it at run time, and what follows routes."""

    funding_horizon_s: Annotated[int, Field(ge=0, le=MAX_HORIZON_S)] = DEFAULT_HORIZON_S
    """Time over which expected funding counts when nobody names one."""
    max_open_routes: Annotated[int, Field(ge=1)] = 50_000
    """Routes followed at once; of more, states are read when somebody asks, and not streamed."""


class RouterGrpcSettings(GrpcSettings):
    """The router's own server."""

    port: Annotated[int, Field(ge=0, le=65535)] = ROUTER_PORT


class RouterSettings(ServiceSettings):
    """`ROUTER_VENUES=hyperliquid=127.0.0.1:50051,tradexyz=127.0.0.1:50052` and the rest by their keys."""

    env_prefix: ClassVar[str] = "ROUTER_"

    venues: Names
    """`name=host:port` of each gateway."""
    grpc: RouterGrpcSettings = RouterGrpcSettings()
    gateway: GatewaySettings = GatewaySettings()
    books: BookSettings = BookSettings()
    risk: RiskSettings = RiskSettings()
    facts: FactSettings = FactSettings()
    routing: RoutingSettings = RoutingSettings()
    excluded_venues: tuple[str, ...] = ()
    """Venues that routing never chooses until the policy is changed; naming one in an order still works."""
    page_token_key_file: Path | None = None
    """Secret that signs page tokens, the same on every replica; without it tokens are only checked for damage."""

    @field_validator("venues")
    @classmethod
    def _name_and_address(cls, venues: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[str] = set()
        for entry in venues:
            name, separator, address = entry.partition("=")
            if not separator or not _VENUE_NAME.fullmatch(name):
                raise ValueError("must be name=host:port entries, a name being lower-case letters, digits, - and _")
            if not _ADDRESS.fullmatch(address):
                raise ValueError(f"the address of {name} must be host:port")
            if name in seen:
                raise ValueError(f"{name} is named twice")
            seen.add(name)
        return venues

    @field_validator("excluded_venues", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def gateways(self) -> dict[str, str]:
        """Address of each venue's gateway by venue name, in the order given."""
        return dict(entry.split("=", 1) for entry in self.venues)
