"""What of the services' settings may change at run time is what the runbook says, and nothing is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import pytest

from aggregator.settings import AggregatorSettings
from gateway_hyperliquid.settings import GatewaySettings as HyperliquidSettings
from gateway_lighter.settings import GatewaySettings as LighterSettings
from gateway_lighter.venue import LighterVenue
from hypercore.adapter.venue import HyperCoreVenue
from router.server import CALL_BOUNDS
from router.settings import RouterSettings
from tests.fakes import ManualClock
from venuemesh.configuration import Configuration, differing, key_of, mixed
from venuemesh.gateway.server import allow_links
from venuemesh.running import CALL_LIMITS
from venuemesh.settings import ServiceSettings
from venuemesh.transport.quality import QualityPolicy

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = "0x" + "1" * 40
ACCOUNTS = {
    HyperliquidSettings: f'[[accounts]]\naccount_id = "main"\naddress = "{ADDRESS}"\nagent_key_file = "/k"\n',
    LighterSettings: f'[[accounts]]\naccount_id = "main"\naccount_index = 7\nl1_address = "{ADDRESS}"\n'
    'keys = [{index = 2, file = "/k"}]\n',
    RouterSettings: 'venues = ["a=127.0.0.1:1"]\n',
    AggregatorSettings: 'venues = ["a=127.0.0.1:1"]\n',
}


@pytest.mark.parametrize("kind", ACCOUNTS, ids=lambda kind: kind.env_prefix)
def test_mixed_when_every_setting_is_taken_is_what_was_read(kind: type[ServiceSettings], tmp_path: Path) -> None:
    """Groups, accounts and files of keys come through the check of the mixture as they are."""
    path = tmp_path / "service.toml"
    path.write_text(ACCOUNTS[kind])
    one = kind.load({}, path)
    path.write_text(f'{ACCOUNTS[kind]}[telemetry]\nlog_level = "DEBUG"\n[grpc]\ncall_burst = 5\nport = 9\n')
    other = kind.load({}, path)
    paths = differing(one, other)
    assert {key_of(path) for path in paths} == {"GRPC__CALL_BURST", "GRPC__PORT", "TELEMETRY__LOG_LEVEL"}
    assert mixed(one, other, paths) == other
    assert mixed(one, other, []) == one


def of_runbook() -> dict[str, set[str]]:
    """Keys by service, as the table of the section lists them."""
    section = (
        (ROOT / "docs/runbook.md").read_text().split("\n## Changing settings without a restart\n")[1].split("\n## ")[0]
    )
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| ") and "`" in line]
    return {who.strip(): set(re.findall(r"`([A-Z_]+)`", keys)) for who, keys in rows}


def test_runbook_lists_exactly_the_settings_that_may_change() -> None:
    """An operator who edits one of these needs no restart, and one who edits another does."""
    never: Any = lambda taken: lambda: None  # noqa: E731 - a rule is a function of this shape
    every = Configuration(AggregatorSettings())
    every.allow(CALL_LIMITS, never)
    router = Configuration(RouterSettings.load({"ROUTER_VENUES": "a=127.0.0.1:1"}))
    router.allow(CALL_BOUNDS, never)
    gateway = Configuration(LighterSettings())
    allow_links(cast(Any, gateway), cast(Any, None), cast(Any, None))
    common = set(every.reloadable)
    assert of_runbook() == {
        "every service": common,
        "router": set(router.reloadable) - common,
        "gateway": set(gateway.reloadable) - common,
    }


def test_what_decides_where_money_goes_never_changes_at_run_time() -> None:
    """Venue, environment, accounts and keys are those of the start."""
    gateway = Configuration(HyperliquidSettings())
    allow_links(cast(Any, gateway), cast(Any, None), cast(Any, None))
    for key in ("VENUE", "ENVIRONMENT", "ALLOW_MAINNET", "API_URL", "ACCOUNTS", "DEX", "GRPC__TOKEN_KEYS_FILE"):
        assert key in {key_of(path) for path, _ in gateway.current.leaves()} and key not in gateway.reloadable


@pytest.mark.parametrize(
    ("make", "board"),
    [
        (lambda: HyperCoreVenue(HyperliquidSettings(), ManualClock()), "_links.shared.board"),
        (lambda: LighterVenue(LighterSettings(), ManualClock()), "_parts.links.shared.board"),
    ],
    ids=["hypercore", "lighter"],
)
async def test_rules_of_links_reach_the_connections_of_every_adapter(make: Callable[[], Any], board: str) -> None:
    """A rule that the port takes and nobody obeys would be told as changed."""
    venue, policy = make(), QualityPolicy(max_latency_s=0.5)
    venue.judge_links(policy)
    assert attrgetter(board)(venue).policy is policy
    await venue.aclose()
