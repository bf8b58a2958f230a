"""`up`, `down`, `status`, `venues`: the mesh as a whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from venuemesh.cli.exits import Exit
from venuemesh.cli.options import command
from venuemesh.cli.session import Session

ROOT = Path(__file__).resolve().parents[3]
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    app.command("up", context_settings=PASSED_ON)(up)
    app.command("down", context_settings=PASSED_ON)(down)
    command(app, "status")(status)
    command(app, "venues")(venues)


def up(context: typer.Context) -> None:
    """Start the whole mesh on this machine against a simulator, and stay until Ctrl-C.

    Further options go to the supervisor: --no-walkthrough, --keep, --tls, --ports auto, --state-dir DIR.
    """
    _supervise("up", context.args)


def down(context: typer.Context) -> None:
    """Stop the mesh that `up` started; --state-dir DIR names another one."""
    _supervise("down", context.args)


def _supervise(name: str, arguments: list[str]) -> None:
    if not (ROOT / "deploy" / "local" / "__main__.py").exists():
        typer.echo("the local mesh is part of a source checkout, and this is none", err=True)
        raise typer.Exit(Exit.UNAVAILABLE)
    # It becomes this process, so that Ctrl-C and signals reach the supervisor itself.
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    os.execve(sys.executable, [sys.executable, "-m", "deploy.local", name, *arguments], environ)  # noqa: S606


async def status(session: Session) -> Exit:
    """Is everything well: services, venues, trading, breakers, orders in doubt, stale parts. Exits 4 when not."""
    from venuemesh.cli.overview import read, shown

    with session.out.progress("asking every service"):
        overview = await read(session)
    if session.json:
        session.out.record(overview.as_json())
    else:
        session.out.parts(shown(overview))
    return Exit.OK if overview.well else Exit.UNAVAILABLE


async def venues(
    session: Session,
    venue: Annotated[str | None, typer.Argument(help="Show this one in full.", metavar="[VENUE]")] = None,
) -> None:
    """List venues, or show one with its links and what it takes."""
    from venuemesh.cli.views import market as views
    from venuemesh.v1 import venue_service_pb2 as pb

    if venue is None:
        listed: Any = await session.router.call(pb.ListVenuesRequest(), pb.ListVenuesResponse)
        session.out.show(listed, views.venues)
    else:
        found: Any = await session.router.call(pb.GetVenueRequest(venue=venue), pb.GetVenueResponse)
        session.out.show(found, views.venue)
