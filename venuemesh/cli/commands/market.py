"""`book`, `trades`: prices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from venuemesh.cli.commands.given import SymbolArgument, Updates, Watch
from venuemesh.cli.options import command
from venuemesh.cli.session import Session


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    command(app, "book")(book)
    command(app, "trades")(trades)


async def book(
    session: Session,
    symbol: SymbolArgument,
    venue: Annotated[str | None, typer.Option("--venue", "-v", help="Of this venue; over all unless set.")] = None,
    depth: Annotated[int, typer.Option("--depth", "-d", min=1, max=1_000, help="Levels on each side.")] = 10,
) -> None:
    """Show the order book; a stale one says so."""
    from venuemesh.cli.views import market as views
    from venuemesh.v1 import market_data_service_pb2 as pb

    request = pb.GetOrderBookRequest(venue=venue or "", symbol=symbol, depth=depth)
    session.out.show(await session.router.call(request, pb.GetOrderBookResponse), views.book)


async def trades(
    session: Session,
    symbol: SymbolArgument,
    venue: Annotated[str, typer.Option("--venue", "-v", help="Of this venue.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="Rows at most.")] = 20,
    watch: Watch = False,
    updates: Updates = None,
) -> None:
    """Show what was traded lately, newest first; or follow it."""
    from venuemesh.cli.views import market as views
    from venuemesh.v1 import market_data_service_pb2 as pb

    if watch:
        await _watch(session, symbol, venue, updates)
        return
    request = pb.ListTradesRequest(venue=venue, symbol=symbol, page_size=limit)
    answer: Any = await session.router.call(request, pb.ListTradesResponse)
    session.out.show(answer, lambda found: views.trades(found.trades))


async def _watch(session: Session, symbol: str, venue: str, updates: int | None) -> None:
    from contextlib import aclosing

    from venuemesh.cli.following import follow
    from venuemesh.cli.views import market as views
    from venuemesh.v1 import market_data_service_pb2 as pb

    request = pb.StreamTradesRequest(venue=venue, symbols=[symbol])
    seen = 0
    async with aclosing(follow(session, session.router, lambda: request, pb.StreamTradesResponse)) as messages:
        async for message in messages:
            if session.json:
                session.out.record(message)
            elif message.WhichOneof("body") == "trade":
                session.out.parts(["  ".join(views.trade_row(message.trade))])
            seen += message.WhichOneof("body") == "trade"
            if updates is not None and seen >= updates:
                return
