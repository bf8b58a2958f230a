"""A degraded link is told, pauses new orders where so set, and never a cancel (properties 12, 30 and 31)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import pytest

from tests.fakes import ManualClock
from tests.fakes_venue import MAIN, FakeVenue
from tests.unit.venuemesh.gateway.gateway_world import Caller, World, gateway
from venuemesh.configuration import Configuration
from venuemesh.errors import Reason, Sent, VenueDegraded
from venuemesh.gateway.alerts import LINK_DEGRADED, ORDERS_PAUSED
from venuemesh.gateway.link_board import REST_LINK, LinkBoard, user_link
from venuemesh.gateway.link_settings import LinkSettings
from venuemesh.gateway.link_watch import LinkWatch, LinkWatchSettings
from venuemesh.gateway.measures import LinkGauges
from venuemesh.gateway.server import allow_links
from venuemesh.gateway.settings import Hosts, VenueGatewaySettings
from venuemesh.metrics import Metrics
from venuemesh.transport.environment import Environment
from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import StateRecord
from venuemesh.transport.quality import QualityPolicy
from venuemesh.v1 import order_service_pb2, stream_pb2, venue_pb2

DEGRADED, LIVE = stream_pb2.LINK_STATE_DEGRADED, stream_pb2.LINK_STATE_LIVE


class LinkedVenue(FakeVenue):
    """A venue whose links are as the test says."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.rows = {REST_LINK: LIVE, user_link(MAIN): LIVE, "market": LIVE}

    def links(self) -> Sequence[venue_pb2.LinkStatus]:
        return [
            venue_pb2.LinkStatus(link_id=name, state=state, cause="slow" if state == DEGRADED else "")
            for name, state in self.rows.items()
        ]


class LinkedSettings(VenueGatewaySettings):
    """A venue nowhere but on this machine."""

    env_prefix: ClassVar[str] = "TEST_"
    hosts: ClassVar[Hosts] = Hosts(
        urls={Environment.SIMULATOR: "http://127.0.0.1:1"}, testnet=frozenset(), mainnet=frozenset()
    )
    venue: str = "test"


def pausing(world: World) -> LinkWatch:
    """A watch over the world's links that pauses."""
    watch = LinkWatch(
        world.venue,
        world.core.alerts,
        world.core.desk.pauses,
        accounts=[MAIN],
        settings=LinkWatchSettings(pause_orders=True),
    )
    watch.on_change = world.core.health.publish
    world.core.link_watch = watch
    return watch


def kinds(world: World) -> list[str]:
    """Kinds of the alerts that last."""
    return [alert.kind for alert in world.core.alerts.lasting()]


def linked() -> LinkedVenue:
    return LinkedVenue(ManualClock())


async def test_a_degraded_link_is_an_alert_and_a_state_of_the_venue_and_orders_pass() -> None:
    """P31: without the policy a degraded link is told, and orders pass."""
    async with gateway(venue=linked()) as world:
        seen: list[venue_pb2.VenueStatus] = []
        world.core.on_status.append(seen.append)
        world.venue.rows["market"] = DEGRADED
        world.core.link_watch.look()
        assert kinds(world) == [LINK_DEGRADED]
        assert world.core.alerts.lasting()[0].message == "market: slow"
        assert seen[-1].state == venue_pb2.VENUE_STATE_DEGRADED
        assert seen[-1].cause == "degraded: market: slow"
        answer = await world.submit("k-1")
        assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
        world.venue.rows["market"] = LIVE
        world.core.link_watch.look()
        assert kinds(world) == []
        assert seen[-1].state == venue_pb2.VENUE_STATE_TRADING


@pytest.mark.parametrize("link_id", [REST_LINK, user_link(MAIN)])
async def test_by_policy_new_orders_are_paused_over_a_degraded_link_and_cancels_pass(link_id: str) -> None:
    """P31: the refusal names the cause, says that nothing was sent, and ends with the degradation."""
    async with gateway(venue=linked()) as world:
        await world.submit("k-1")
        watch = pausing(world)
        world.venue.rows[link_id] = DEGRADED
        watch.look()
        with pytest.raises(VenueDegraded) as refused:
            await world.submit("k-2")
        assert (refused.value.reason, refused.value.sent) == (Reason.VENUE_DEGRADED, Sent.NO)
        assert f"link {link_id} is degraded: slow" in refused.value.message
        assert sorted(kinds(world)) == [LINK_DEGRADED, ORDERS_PAUSED]
        assert "new orders are paused" in world.core.status().cause
        reference = order_service_pb2.OrderReference(account_id=MAIN, client_order_id="k-1")
        await world.orders.CancelOrder(order_service_pb2.CancelOrderRequest(reference=reference), Caller())
        assert world.venue.cancels
        replay = await world.submit("k-1")
        assert replay.replayed
        world.venue.rows[link_id] = LIVE
        watch.look()
        assert kinds(world) == []
        assert (await world.submit("k-2")).outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_a_degraded_market_link_pauses_nothing() -> None:
    """Orders do not go over it, and its books say STALE themselves."""
    async with gateway(venue=linked()) as world:
        watch = pausing(world)
        world.venue.rows["market"] = DEGRADED
        watch.look()
        assert world.core.desk.pauses == {}
        await world.submit("k-1")


async def test_pausing_switched_on_and_off_works_at_once() -> None:
    """Over a link that is degraded already, and nothing of a pause remains."""
    async with gateway(venue=linked()) as world:
        seen: list[venue_pb2.VenueStatus] = []
        world.core.on_status.append(seen.append)
        watch = world.core.link_watch
        world.venue.rows[REST_LINK] = DEGRADED
        watch.look()
        await world.submit("k-1")
        watch.change(LinkWatchSettings(pause_orders=True))
        with pytest.raises(VenueDegraded):
            await world.submit("k-2")
        assert sorted(kinds(world)) == [LINK_DEGRADED, ORDERS_PAUSED]
        assert "new orders are paused" in seen[-1].cause
        watch.change(LinkWatchSettings(pause_orders=False))
        assert kinds(world) == [LINK_DEGRADED] and world.core.desk.pauses == {}
        assert seen[-1].state == venue_pb2.VENUE_STATE_DEGRADED and "paused" not in seen[-1].cause
        await world.submit("k-2")


async def test_rules_of_links_that_are_read_again_reach_board_and_watch() -> None:
    """Both of them, from one reload; nothing else of the gateway's settings may change."""
    settings = LinkedSettings()
    taken = LinkedSettings(links=LinkSettings(max_latency_s=0.5, pause_orders=True), retained_orders=5)
    configuration = Configuration[VenueGatewaySettings](settings, lambda: taken)
    async with gateway(venue=linked()) as world:
        world.venue.rows[REST_LINK] = DEGRADED
        allow_links(configuration, world.core.venue, world.core.link_watch)
        told = configuration.reload()
        assert told.changed == ("LINKS__MAX_LATENCY_S", "LINKS__PAUSE_ORDERS")
        assert told.restart == ("RETAINED_ORDERS",)
        assert world.venue.link_policy == QualityPolicy(max_latency_s=0.5)
        assert list(world.core.desk.pauses) == [MAIN]


def test_board_judges_by_other_limits_from_the_next_look_on() -> None:
    """A degraded link must be calm by the new limits for their time; a good one is degraded at once."""
    clock = ManualClock()
    board = LinkBoard(clock, policy=QualityPolicy(max_latency_s=1.0))
    stats = board.add("rest")
    stats.connect_succeeded()
    stats.request_done(failed=False, latency_s=2.0)
    assert board.statuses()[0].state == DEGRADED
    board.policy = QualityPolicy(max_latency_s=5.0, recover_after_s=1.0)
    assert board.statuses()[0].state == DEGRADED  # calm begins
    clock.advance(1)
    assert board.statuses()[0].state != DEGRADED
    board.policy = QualityPolicy(max_latency_s=0.5)
    assert board.statuses()[0].state == DEGRADED


def test_board_shows_a_degraded_link_until_it_was_calm_long_enough() -> None:
    """P30, P31: state, since when, cause and figures are one story."""
    clock = ManualClock()
    board = LinkBoard(clock, policy=QualityPolicy(max_latency_s=1.0, recover_after_s=10))
    stats = board.add("rest")
    stats.connect_succeeded()
    board.on_state(StateRecord(link="rest", state=LinkState.LIVE, at_ns=clock.now_ns()))
    for latency_s in (3.0, 2.0, 2.0):
        stats.request_done(failed=False, latency_s=latency_s)
    clock.advance(1)
    (link,) = board.statuses()
    assert (link.state, link.cause) == (DEGRADED, "median latency 2.000 s, limit 1 s")
    assert link.since.ToNanoseconds() == clock.now_ns()
    assert (link.latency_p50.ToNanoseconds(), link.latency_p99.ToNanoseconds()) == (2 * 10**9, 3 * 10**9)
    assert (link.requests, link.uptime_ppm) == (3, 1_000_000)
    clock.advance(60)
    assert board.statuses()[0].state == DEGRADED  # calm begins
    clock.advance(9)
    assert board.statuses()[0].state == DEGRADED
    clock.advance(1)
    (link,) = board.statuses()
    assert (link.state, link.cause, link.requests) == (LIVE, "", 0)


def test_board_shows_a_link_that_is_gone_as_down_with_the_reason() -> None:
    """P12: a connection cut for silence is down at once, degraded or not."""
    clock = ManualClock()
    board = LinkBoard(clock)
    stats = board.add("market")
    stats.connect_succeeded()
    stats.latency_measured(9.0)
    assert board.statuses()[0].state == DEGRADED
    stats.disconnected("nothing heard for 40 s")
    (link,) = board.statuses()
    assert (link.state, link.cause) == (stream_pb2.LINK_STATE_DOWN, "nothing heard for 40 s")


def test_gauges_follow_the_links_and_an_unknown_latency_reads_as_none() -> None:
    """P30: uptime, errors, latency and reconnections of each link are metrics."""
    metrics = Metrics()
    link = venue_pb2.LinkStatus(link_id="rest", state=DEGRADED, uptime_ppm=900_000, error_rate_ppm=250_000)
    link.reconnections = 7
    gauges = LinkGauges(metrics, "sim")
    gauges([link])
    read = metrics.registry.get_sample_value
    labels = {"venue": "sim", "link": "rest"}
    assert read("venuemesh_link_uptime_ratio", labels) == 0.9
    assert read("venuemesh_link_error_ratio", labels) == 0.25
    assert read("venuemesh_link_degraded", labels) == 1
    assert read("venuemesh_link_reconnections", labels) == 7
    latency = read("venuemesh_link_latency_seconds", {**labels, "quantile": "0.99"})
    assert latency is not None and math.isnan(latency)
    link.latency_p50.FromMilliseconds(20)
    link.latency_p99.FromMilliseconds(90)
    gauges([link])
    assert read("venuemesh_link_latency_seconds", {**labels, "quantile": "0.99"}) == 0.09


def test_a_limit_of_zero_switches_its_rule_off() -> None:
    """Settings to policy and watch."""
    policy = LinkSettings(max_error_rate=0, max_latency_s=0, max_reconnections=0).policy
    assert (policy.max_error_rate, policy.max_latency_s, policy.max_reconnections) == (None, None, None)
    assert LinkSettings().policy == QualityPolicy()
    assert LinkSettings(pause_orders=True).watch.pause_orders
    assert not LinkSettings().watch.pause_orders
