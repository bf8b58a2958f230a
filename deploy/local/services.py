"""What a row of the table of services is, and what a service may see of the environment. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.process import Launch

Facts = Mapping[str, str]
"""What a service said in its ready line, such as `grpc_address`."""
Known = Mapping[str, Facts]
"""Facts by service, of those that are ready or were: a restart finds its own here and keeps its ports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Command of a service and the settings it needs, by environment key."""

    command: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One row of the table.

    Args:
        name: also of its log file.
        plan: command and settings, from what the services named in `needs` (and its own former self) said.
        ready: the facts, when a line of output is the one that says it is ready; else None.
        needs: services whose facts `plan` reads; it starts once they are known and stops before them.
        ports: fixed ports it will bind, by what they are for; none when they are chosen by the system.
        prefix: of its environment keys; no other service gets to see those.
        health: names that must be SERVING by grpc.health.v1 at the `grpc_address` of its facts; none for a
            service that speaks no gRPC.
    """

    name: str
    plan: Callable[[Known], Plan]
    ready: Callable[[str], Facts | None]
    needs: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    prefix: str | None = None
    health: tuple[str, ...] = ("",)


class TableError(Exception):
    """The table of services contradicts itself."""


def check_table(services: Sequence[Service]) -> None:
    """Names are unique, and each service stands below those it needs.

    Raises:
        TableError: says which row is wrong.
    """
    seen: set[str] = set()
    for service in services:
        if service.name in seen:
            raise TableError(f"{service.name} stands in the table twice")
        missing = [name for name in service.needs if name not in seen]
        if missing:
            raise TableError(f"{service.name} needs {', '.join(missing)}, which must stand above it")
        seen.add(service.name)


def launch_of(
    service: Service, services: Sequence[Service], known: Known, *, environ: Mapping[str, str], folder: Path
) -> Launch:
    """How to run `service` now.

    It inherits `environ`, so that its settings can be overridden from outside, except what is another service's:
    the gateway's keys are nobody else's business. What the table says wins.
    """
    plan = service.plan({name: known[name] for name in (*service.needs, service.name) if name in known})
    foreign = tuple(other.prefix for other in services if other.prefix and other.prefix != service.prefix)
    inherited = {key: value for key, value in environ.items() if not key.startswith(foreign)}
    return Launch(
        command=plan.command,
        environment={**inherited, "PYTHONUNBUFFERED": "1", **plan.settings},
        folder=folder,
    )


def ready_line(line: str) -> Facts | None:
    """Facts of the JSON line `{"event": "service_ready", ...}` that every service of the mesh prints."""
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.get("event") not in {"service_ready", "simulator_ready"}:
        return None
    return {str(key): str(value) for key, value in fields.items() if key != "event" and value is not None}
