"""`positions`, `balances`, `portfolio`: what is held."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

import typer

from venuemesh.cli.commands.given import Account, Updates, Venue
from venuemesh.cli.options import command
from venuemesh.cli.session import Session

Symbols = Annotated[list[str] | None, typer.Option("--symbol", "-s", help="Only this symbol; may be repeated.")]
Venues = Annotated[list[str] | None, typer.Option("--venue", "-v", help="Only this venue; may be repeated.")]
Accounts = Annotated[list[str] | None, typer.Option("--account", "-a", help="Only this account; may be repeated.")]
Rate = Annotated[int, typer.Option("--every-ms", min=1, help="Show price changes at most this often.")]


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    command(app, "positions")(positions)
    command(app, "balances")(balances)
    portfolio = typer.Typer(no_args_is_help=True, help="Everything over all venues and accounts.")
    command(portfolio, "show")(show)
    command(portfolio, "watch")(watch)
    app.add_typer(portfolio, name="portfolio")


async def positions(session: Session, account: Account = None, venue: Venue = None, symbols: Symbols = None) -> None:
    """List open positions."""
    from venuemesh.cli.views import money as views
    from venuemesh.v1 import account_service_pb2 as pb

    request = pb.ListPositionsRequest(
        account_id=await session.account(account), venue=venue or "", symbols=symbols or ()
    )
    answer: Any = await session.router.call(request, pb.ListPositionsResponse)
    session.out.show(answer, lambda found: views.positions(found.positions))


async def balances(session: Session, account: Account = None, venue: Venue = None) -> None:
    """List balances by venue and asset."""
    from venuemesh.cli.views import money as views
    from venuemesh.v1 import account_service_pb2 as pb

    request = pb.ListBalancesRequest(account_id=await session.account(account), venue=venue or "")
    answer: Any = await session.router.call(request, pb.ListBalancesResponse)
    session.out.show(answer, lambda found: views.balances(found.balances))


def _filter(venues: list[str] | None, accounts: list[str] | None, symbols: list[str] | None) -> Any:
    from venuemesh.v1 import portfolio_service_pb2 as pb

    return pb.PortfolioFilter(venues=venues or (), account_ids=accounts or (), symbols=symbols or ())


async def show(session: Session, venues: Venues = None, accounts: Accounts = None, symbols: Symbols = None) -> None:
    """Show the portfolio now."""
    from venuemesh.cli.views import money as views
    from venuemesh.v1 import portfolio_service_pb2 as pb

    request = pb.GetPortfolioRequest(filter=_filter(venues, accounts, symbols))
    answer: Any = await session.aggregator.call(request, pb.GetPortfolioResponse)
    session.out.show(answer, lambda found: views.portfolio(found.portfolio))


async def watch(
    session: Session,
    venues: Venues = None,
    accounts: Accounts = None,
    symbols: Symbols = None,
    every_ms: Rate = 500,
    updates: Updates = None,
) -> None:
    """Follow the portfolio, live; resumed where it broke. JSON is one message of the stream a line."""
    from venuemesh.cli.following import follow
    from venuemesh.cli.portfolio_copy import PortfolioCopy
    from venuemesh.cli.views import money as views
    from venuemesh.v1 import portfolio_service_pb2 as pb
    from venuemesh.v1 import stream_pb2

    copy = PortfolioCopy()
    wanted = _filter(venues, accounts, symbols)

    def request() -> Any:
        options = stream_pb2.StreamOptions(resume_after=copy.position, sample_interval_ms=every_ms)
        return pb.StreamPortfolioRequest(filter=wanted, options=options)

    seen = 0
    messages = follow(session, session.aggregator, request, pb.StreamPortfolioResponse)
    with session.out.live() as picture:
        async with aclosing(messages):
            async for message in messages:
                changed = copy.take(message)
                if session.json:
                    session.out.record(message)
                elif changed and copy.known:
                    picture.draw(views.portfolio(copy.portfolio))
                seen += changed
                if updates is not None and seen >= updates:
                    return
