"""`order`, `cancel-all`: what trades."""

from __future__ import annotations

import secrets
from contextlib import aclosing
from typing import Annotated, Any

import typer

from venuemesh.cli.choices import AckLevel, OrderStatus, OrderType, Side, TimeInForce, TriggerPriceType
from venuemesh.cli.commands.given import (
    Account,
    ClientOrderId,
    Limit,
    OrderId,
    Since,
    Symbol,
    SymbolArgument,
    Until,
    Updates,
    Venue,
    VenueOrderId,
    Watch,
    Yes,
)
from venuemesh.cli.exits import Exit, UsageFault, worst
from venuemesh.cli.options import command
from venuemesh.cli.session import Session

Settle = Annotated[float, typer.Option("--settle", min=0, help="Seconds to read an uncertain order back.")]
OPEN = (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.UNCERTAIN)


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    order = typer.Typer(no_args_is_help=True, help="Submit, change, cancel and see orders.")
    command(order, "submit")(submit)
    command(order, "amend")(amend)
    command(order, "cancel")(cancel)
    command(order, "show")(show)
    command(order, "list")(list_orders)
    app.add_typer(order, name="order")
    command(app, "cancel-all")(cancel_all)


async def submit(
    session: Session,
    side: Annotated[Side, typer.Argument(help="Which way.")],
    quantity: Annotated[str, typer.Argument(help="Base units, such as 0.01.")],
    symbol: SymbolArgument,
    price: Annotated[str | None, typer.Option("--price", "-p", help="Limit price; a market order without.")] = None,
    venue: Annotated[str | None, typer.Option("--venue", "-v", help="Where; the router chooses unless set.")] = None,
    order_type: Annotated[
        OrderType | None, typer.Option("--type", help="Limit with a price, market without, unless set.")
    ] = None,
    time_in_force: Annotated[
        TimeInForce | None, typer.Option("--tif", help="GTC for types with a price, IOC for market, unless set.")
    ] = None,
    expire: Annotated[str | None, typer.Option("--expire", help="End of a GTD order: a time, or 10m from now.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Never take liquidity.")] = False,
    reduce_only: Annotated[bool, typer.Option("--reduce-only", help="Only make a position smaller.")] = False,
    trigger: Annotated[str | None, typer.Option("--trigger", help="Trigger price of stops and take-profits.")] = None,
    trigger_by: Annotated[TriggerPriceType | None, typer.Option("--trigger-by", help="Price it watches.")] = None,
    max_slippage_bps: Annotated[int | None, typer.Option(min=0, help="Bound of a market order.")] = None,
    twap: Annotated[str | None, typer.Option("--twap", help="Spread over this long, such as 30m.")] = None,
    client_order_id: Annotated[
        str | None,
        typer.Option("--client-order-id", "-k", help="Your key; made up, and said before sending, unless set."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="key=value, kept with the order.")] = None,
    account: Account = None,
    ack: Annotated[
        AckLevel | None, typer.Option("--ack", help="How long to wait; until the venue spoke, unless set.")
    ] = None,
    settle: Settle = 5.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check it against all rules.")] = False,
) -> Exit:
    """Submit an order. Its key is said first: with it a repeat is safe, and nothing is ever sent twice."""
    from venuemesh.cli.parsing import decimal_text, instant_ns, optional_decimal, span_ns, tags_of
    from venuemesh.cli.views.orders import previewed, submitted, terms_in_words
    from venuemesh.v1 import order_pb2
    from venuemesh.v1 import order_service_pb2 as pb

    kind = order_type or (OrderType.TWAP if twap else OrderType.MARKET if price is None else OrderType.LIMIT)
    terms: Any = order_pb2.NewOrder(
        client_order_id=client_order_id or f"cli-{secrets.token_hex(12)}",
        venue=venue or "",
        symbol=symbol,
        quantity=decimal_text(quantity, "QUANTITY"),
        price=optional_decimal(price, "--price"),
        max_slippage_bps=max_slippage_bps,
        tags=tags_of(tag or []),
    )
    _choices(terms, kind, side, time_in_force, post_only=post_only, reduce_only=reduce_only)
    if trigger is not None:
        terms.trigger.price = decimal_text(trigger, "--trigger")
        terms.trigger.price_type = _number(trigger_by, order_pb2.TriggerPriceType)
    elif trigger_by is not None:
        raise UsageFault("--trigger-by: needs --trigger")
    if expire is not None:
        now_ns = session.clock.now_ns()
        terms.expire_time.FromNanoseconds(instant_ns(expire, "--expire", now_ns=now_ns, future=True))
    if twap is not None:
        terms.twap.duration.FromNanoseconds(span_ns(twap, "--twap"))
    terms.account_id = await session.account(account)
    if dry_run:
        checked: Any = await session.router.call(pb.PreviewOrderRequest(order=terms), pb.PreviewOrderResponse)
        session.out.show(checked, previewed)
        return Exit.REFUSED if checked.rejects else Exit.OK

    from venuemesh.cli import submitting

    session.out.note(f"client order id {terms.client_order_id}: {terms_in_words(terms)}")
    request = pb.SubmitOrderRequest(order=terms, ack_level=_number(ack, pb.AckLevel))
    answer = await submitting.submit(session, request, settle_s=settle)
    session.out.show(answer, submitted)
    return submitting.exit_of_submit(answer, until_sent=ack is AckLevel.GATEWAY)


def _choices(
    terms: Any, kind: OrderType, side: Side, time_in_force: TimeInForce | None, *, post_only: bool, reduce_only: bool
) -> None:
    from venuemesh.v1 import order_pb2

    if time_in_force is None and kind is not OrderType.TWAP:
        priced = kind in (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
        time_in_force = TimeInForce.GTC if priced else TimeInForce.IOC
    terms.side = _number(side, order_pb2.Side)
    terms.order_type = _number(kind, order_pb2.OrderType)
    terms.time_in_force = _number(time_in_force, order_pb2.TimeInForce)
    if post_only:
        terms.instructions.append(order_pb2.EXECUTION_INSTRUCTION_POST_ONLY)
    if reduce_only:
        terms.instructions.append(order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY)


def _number(choice: Any, enum: Any) -> Any:
    from venuemesh.cli.choices import number_of

    return number_of(choice, enum)


async def reference(
    session: Session,
    key: str | None,
    order_id: str | None,
    venue_order_id: str | None,
    account: str | None,
    venue: str | None,
) -> Any:
    """Names an order by the one id that was given.

    Raises:
        UsageFault: none was, or several were.
    """
    from venuemesh.cli.parsing import one_of
    from venuemesh.cli.submitting import reference_to

    kind = one_of(key=key, order_id=order_id, venue_order_id=venue_order_id)
    name = {"key": "client_order_id"}.get(kind, kind)
    value = key or order_id or venue_order_id or ""
    return reference_to(await session.account(account), venue, **{name: value})


async def amend(
    session: Session,
    key: ClientOrderId = None,
    order_id: OrderId = None,
    venue_order_id: VenueOrderId = None,
    quantity: Annotated[str | None, typer.Option("--quantity", "-q", help="New total quantity.")] = None,
    price: Annotated[str | None, typer.Option("--price", "-p", help="New limit price.")] = None,
    trigger: Annotated[str | None, typer.Option("--trigger", help="New trigger price.")] = None,
    expected_version: Annotated[int | None, typer.Option(min=0, help="Refuse when it has changed since.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Key of this change; made up unless set.")] = None,
    account: Account = None,
    venue: Venue = None,
) -> Exit:
    """Change quantity, price or trigger of a working order. Applied only when the venue confirms."""
    from venuemesh.cli import submitting
    from venuemesh.cli.parsing import optional_decimal
    from venuemesh.cli.views.orders import submitted
    from venuemesh.v1 import order_service_pb2 as pb

    if quantity is None and price is None and trigger is None:
        raise UsageFault("give at least one of --quantity, --price, --trigger")
    request = pb.ReplaceOrderRequest(
        quantity=optional_decimal(quantity, "--quantity"),
        price=optional_decimal(price, "--price"),
        trigger_price=optional_decimal(trigger, "--trigger"),
        expected_version=expected_version,
        request_id=request_id or f"cli-{secrets.token_hex(12)}",
        reference=await reference(session, key, order_id, venue_order_id, account, venue),
    )
    session.out.note(f"request id {request.request_id}")
    answer = await submitting.amend(session, request)
    session.out.show(answer, submitted)
    return submitting.exit_of_submit(answer)


async def cancel(
    session: Session,
    key: ClientOrderId = None,
    order_id: OrderId = None,
    venue_order_id: VenueOrderId = None,
    account: Account = None,
    venue: Venue = None,
    settle: Settle = 5.0,
) -> Exit:
    """Cancel an order. One that is gone already is fine."""
    from venuemesh.cli import submitting
    from venuemesh.cli.views.orders import submitted
    from venuemesh.v1 import order_service_pb2 as pb

    target = await reference(session, key, order_id, venue_order_id, account, venue)
    answer = await submitting.cancel(session, pb.CancelOrderRequest(reference=target), settle_s=settle)
    session.out.show(answer, submitted)
    return submitting.exit_of_cancel(answer)


async def show(
    session: Session,
    key: ClientOrderId = None,
    order_id: OrderId = None,
    venue_order_id: VenueOrderId = None,
    account: Account = None,
    venue: Venue = None,
) -> None:
    """Show one order; for people with its fills."""
    from venuemesh.cli.views import orders as views
    from venuemesh.v1 import account_service_pb2
    from venuemesh.v1 import order_service_pb2 as pb

    target = await reference(session, key, order_id, venue_order_id, account, venue)
    answer: Any = await session.router.call(pb.GetOrderRequest(reference=target), pb.GetOrderResponse)
    if session.json:
        session.out.record(answer)
        return
    request = account_service_pb2.ListFillsRequest(
        account_id=target.account_id, venue=answer.order.terms.venue, order_id=answer.order.order_id
    )
    fills: Any = await session.router.pages(request, account_service_pb2.ListFillsResponse, "fills", 100)
    session.out.parts(views.shown(answer, fills.fills))


async def list_orders(
    session: Session,
    account: Account = None,
    venue: Venue = None,
    symbol: Symbol = None,
    status: Annotated[list[OrderStatus] | None, typer.Option("--status", help="Only these; may be repeated.")] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that may still fill.")] = False,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    watch: Watch = False,
    updates: Updates = None,
) -> None:
    """List orders, newest first; or follow every change of them."""
    from venuemesh.cli.parsing import instant_ns
    from venuemesh.cli.views.orders import order_rows
    from venuemesh.v1 import order_pb2
    from venuemesh.v1 import order_service_pb2 as pb

    named = await session.account(account)
    if watch:
        await _watch(session, named, venue, updates)
        return
    wanted = [*(status or ()), *(OPEN if only_open else ())]
    request: Any = pb.ListOrdersRequest(
        account_id=named,
        venue=venue or "",
        symbol=symbol or "",
        statuses=sorted({_number(one, order_pb2.OrderStatus) for one in wanted}),
    )
    now_ns = session.clock.now_ns()
    if since is not None:
        request.from_time.FromNanoseconds(instant_ns(since, "--since", now_ns=now_ns))
    if until is not None:
        request.to_time.FromNanoseconds(instant_ns(until, "--until", now_ns=now_ns))
    answer = await session.router.pages(request, pb.ListOrdersResponse, "orders", limit)
    session.out.show(answer, lambda found: [order_rows(found.orders)])


async def _watch(session: Session, account: str, venue: str | None, updates: int | None) -> None:
    """Of one venue from the router, working orders first; of all venues from the aggregator."""
    from venuemesh.cli.following import follow
    from venuemesh.cli.views.orders import report
    from venuemesh.v1 import order_service_pb2, portfolio_service_pb2, stream_pb2

    position: Any = None

    def at_router() -> Any:
        options = stream_pb2.StreamOptions(resume_after=position)
        return order_service_pb2.StreamExecutionReportsRequest(account_id=account, venue=venue or "", options=options)

    def at_aggregator() -> Any:
        options = stream_pb2.StreamOptions(resume_after=position)
        wanted = portfolio_service_pb2.PortfolioFilter(account_ids=[account])
        return portfolio_service_pb2.StreamExecutionsRequest(filter=wanted, options=options)

    messages = (
        follow(session, session.router, at_router, order_service_pb2.StreamExecutionReportsResponse)
        if venue
        else follow(session, session.aggregator, at_aggregator, portfolio_service_pb2.StreamExecutionsResponse)
    )
    seen = 0
    async with aclosing(messages):
        async for message in messages:
            if message.header.sequence:
                position = stream_pb2.StreamPosition(epoch=message.header.epoch, sequence=message.header.sequence)
            line = report(message)
            if session.json:
                session.out.record(message)
            elif line:
                session.out.parts([line])
            seen += bool(line)
            if updates is not None and seen >= updates:
                return


async def cancel_all(
    session: Session,
    account: Account = None,
    venue: Venue = None,
    symbol: Symbol = None,
    side: Annotated[Side | None, typer.Option("--side", help="Only this side.")] = None,
    yes: Yes = False,
) -> Exit:
    """Cancel all working orders of an account."""
    from venuemesh.cli import submitting
    from venuemesh.cli.views.orders import canceled
    from venuemesh.v1 import order_pb2
    from venuemesh.v1 import order_service_pb2 as pb

    named = await session.account(account)
    what = " ".join(filter(None, ("all", side and side.value, symbol, "orders of account", named)))
    session.confirm(f"Cancel {what} at {venue or 'every venue'}?", yes=yes)
    request = pb.CancelAllOrdersRequest(
        account_id=named, venue=venue or "", symbol=symbol or "", side=_number(side, order_pb2.Side)
    )
    with session.out.progress("cancelling at every venue"):
        answer: Any = await session.router.call(request, pb.CancelAllOrdersResponse)
    session.out.show(answer, canceled)
    codes = [submitting.exit_of_cancel(one) for one in answer.results]
    return worst([*codes, *([Exit.UNAVAILABLE] if answer.unreached else [])])
