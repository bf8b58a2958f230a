"""`route`: where orders go, and what that cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from venuemesh.cli.choices import RoutingStrategy, Side, SplitMode
from venuemesh.cli.commands.given import Account, Limit, Since, SymbolArgument, Until
from venuemesh.cli.options import command
from venuemesh.cli.session import Session

Strategy = Annotated[
    RoutingStrategy | None, typer.Option("--strategy", help="How to choose; the mesh's own unless set.")
]
Split = Annotated[SplitMode | None, typer.Option("--split", help="Whether to split; the mesh's own unless set.")]
Prefer = Annotated[list[str] | None, typer.Option("--prefer", help="With user-preference: venues, in this order.")]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", help="Never this venue; may be repeated.")]


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    route = typer.Typer(no_args_is_help=True, help="Where orders go, and what that cost.")
    command(route, "plan")(plan)
    command(route, "outcomes")(outcomes)
    app.add_typer(route, name="route")


async def plan(
    session: Session,
    side: Annotated[Side, typer.Argument(help="Which way.")],
    quantity: Annotated[str, typer.Argument(help="Base units.")],
    symbol: SymbolArgument,
    price: Annotated[str | None, typer.Option("--price", help="Worst price; a market order without.")] = None,
    strategy: Strategy = None,
    split: Split = None,
    prefer: Prefer = None,
    exclude: Exclude = None,
    account: Account = None,
) -> None:
    """Say where an order would go, at what price and why. Nothing is sent."""
    from venuemesh.cli.choices import number_of
    from venuemesh.cli.parsing import decimal_text, optional_decimal
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import order_pb2, routing_pb2, routing_service_pb2

    limit = optional_decimal(price, "--price")
    order = order_pb2.NewOrder(
        symbol=symbol,
        side=number_of(side, order_pb2.Side),
        quantity=decimal_text(quantity, "QUANTITY"),
        order_type=order_pb2.ORDER_TYPE_MARKET if limit is None else order_pb2.ORDER_TYPE_LIMIT,
        time_in_force=order_pb2.TIME_IN_FORCE_IOC,
        price=limit,
        account_id=await session.account(account),
    )
    instruction = routing_pb2.RoutingInstruction(
        strategy=number_of(strategy, routing_pb2.RoutingStrategy),
        split_mode=number_of(split, routing_pb2.SplitMode),
        preferred_venues=prefer or (),
        excluded_venues=exclude or (),
    )
    request = routing_service_pb2.PlanRouteRequest(order=order, instruction=instruction)
    session.out.show(await session.router.call(request, routing_service_pb2.PlanRouteResponse), views.plan)


async def outcomes(
    session: Session, account: Account = None, since: Since = None, until: Until = None, limit: Limit = 20
) -> None:
    """List routed orders with what they cost in the end, newest first."""
    from venuemesh.cli.parsing import instant_ns
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import routing_service_pb2 as pb

    request: Any = pb.ListRoutingOutcomesRequest(account_id=account or "")
    now_ns = session.clock.now_ns()
    if since is not None:
        request.from_time.FromNanoseconds(instant_ns(since, "--since", now_ns=now_ns))
    if until is not None:
        request.to_time.FromNanoseconds(instant_ns(until, "--until", now_ns=now_ns))
    answer = await session.router.pages(request, pb.ListRoutingOutcomesResponse, "outcomes", limit)
    session.out.show(answer, views.routing_outcomes)
