"""Options that several commands share."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from venuemesh.cli.exits import UsageFault

Account = Annotated[
    str | None,
    typer.Option(
        "--account", "-a", envvar="VENUEMESH_ACCOUNT", help="Account; may be left out where there is only one."
    ),
]
Venue = Annotated[str | None, typer.Option("--venue", "-v", help="Only this venue; all unless set.")]
Symbol = Annotated[str | None, typer.Option("--symbol", "-s", help="Only this symbol, such as BTC/USDC:USDC.")]
SymbolArgument = Annotated[str, typer.Argument(help="Unified symbol, such as BTC/USDC:USDC.", metavar="SYMBOL")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Rows at most.")]
Since = Annotated[str | None, typer.Option("--since", help="At this time or later: 2026-11-20T10:00:00Z, or 10m ago.")]
Until = Annotated[str | None, typer.Option("--until", help="Before this time, likewise.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed in scripts.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow until Ctrl-C; JSON is one object a line.")]
Updates = Annotated[int | None, typer.Option("--updates", min=1, help="Stop after so many.")]
Operator = Annotated[
    str | None, typer.Option("--operator", envvar="VENUEMESH_OPERATOR", help="Who does it; your login name unless set.")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; it is kept.")]

ClientOrderId = Annotated[
    str | None, typer.Argument(help="Your client order id of the order.", metavar="[KEY]", show_default=False)
]
OrderId = Annotated[str | None, typer.Option("--order-id", help="The mesh's id instead of KEY.")]
VenueOrderId = Annotated[str | None, typer.Option("--venue-order-id", help="The venue's id instead of KEY.")]


def operator_of(given: str | None) -> str:
    """Who acts: the name given, else that of the login."""
    return given or getpass.getuser()


def reason_of(given: str | None) -> str:
    """Why.

    Raises:
        UsageFault: nothing was said.
    """
    if not given:
        raise UsageFault("--reason: say why; it is kept with the act")
    return given
