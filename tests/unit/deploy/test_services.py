"""Rows of the table: order, ready lines, and who sees which settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.services import Known, Plan, Service, TableError, check_table, launch_of, ready_line


def row(name: str, *, needs: tuple[str, ...] = (), prefix: str | None = None) -> Service:
    def plan(known: Known) -> Plan:
        return Plan(command=("run", name), settings={f"{prefix}SEES": ",".join(sorted(known))} if prefix else {})

    return Service(name=name, plan=plan, ready=ready_line, needs=needs, prefix=prefix)


def test_check_table_when_a_row_needs_one_below_it_is_refused() -> None:
    """The order of the table is the order of the start, so it must be possible."""
    with pytest.raises(TableError, match="router needs gateway, which must stand above it"):
        check_table([row("router", needs=("gateway",)), row("gateway")])


def test_check_table_when_a_name_stands_twice_is_refused() -> None:
    """Logs and facts go by name."""
    with pytest.raises(TableError, match="router stands in the table twice"):
        check_table([row("router"), row("router")])


def test_launch_gives_only_what_the_service_needs_and_its_own_former_facts() -> None:
    """A row cannot lean on a service it does not name."""
    table = [row("a"), row("b"), row("c", needs=("a",), prefix="C_")]
    known = {name: {"url": name} for name in "abc"}
    launch = launch_of(table[2], table, known, environ={}, folder=Path())
    assert launch.environment["C_SEES"] == "a,c"


def test_launch_inherits_everything_but_the_settings_of_others() -> None:
    """What the operator exported for one service stays with it, and the table wins over it."""
    table = [row("a", prefix="A_"), row("b", prefix="B_"), row("nats")]
    environ = {"PATH": "/bin", "A_LEVEL": "DEBUG", "A_SEES": "mine", "B_KEY": "secret"}
    launch = launch_of(table[0], table, {}, environ=environ, folder=Path("/work"))
    assert launch.environment == {"PATH": "/bin", "A_LEVEL": "DEBUG", "A_SEES": "", "PYTHONUNBUFFERED": "1"}
    assert launch.command == ("run", "a")
    nobody = launch_of(table[2], table, {}, environ=environ, folder=Path())
    assert nobody.environment == {"PATH": "/bin", "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        (
            '{"event":"service_ready","service":"router","grpc_address":"127.0.0.1:50050"}',
            {"service": "router", "grpc_address": "127.0.0.1:50050"},
        ),
        ('{"event": "simulator_ready", "hyperliquid_url": "http://x:1"}', {"hyperliquid_url": "http://x:1"}),
        ('{"event":"service_ready","metrics_address":null}', {}),
        ('{"event":"order_placed"}', None),
        ('{"event":"service_ready"', None),
        ("service_ready", None),
        ("[1]", None),
    ],
)
def test_ready_line_by_line(line: str, facts: dict[str, str] | None) -> None:
    """Only the one JSON line counts; a log line that looks like it does not."""
    assert ready_line(line) == facts
