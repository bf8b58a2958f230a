"""`risk`, `kill-switch`: limits, halts and the switch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from venuemesh.cli.choices import RiskLimitType, TradingState
from venuemesh.cli.commands.given import Operator, Reason, Symbol, Venue, Yes, operator_of, reason_of
from venuemesh.cli.exits import Exit, UsageFault
from venuemesh.cli.options import command, group
from venuemesh.cli.session import Session

Scoped = Annotated[str | None, typer.Option("--account", "-a", help="Only this account; all unless set.")]


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    risk = typer.Typer(help="Limits, trading states and switches; alone it shows them.")
    group(risk)(show)
    command(risk, "show")(show)
    command(risk, "limit")(limit)
    command(risk, "trading")(trading)
    app.add_typer(risk, name="risk")
    switch = typer.Typer(help="Halt trading and cancel everything, or let it begin again; alone it shows the state.")
    group(switch)(show_switch)
    command(switch, "show")(show_switch)
    command(switch, "engage")(engage)
    command(switch, "release")(release)
    app.add_typer(switch, name="kill-switch")


async def show(session: Session) -> None:
    """Show everything about risk now."""
    from venuemesh.cli.views import control as views

    session.out.show(await _state(session), views.risk)


async def _state(session: Session) -> Any:
    from venuemesh.v1 import risk_service_pb2 as pb

    return await session.router.call(pb.GetRiskStateRequest(), pb.GetRiskStateResponse)


def _scope(venue: str | None, account: str | None, symbol: str | None) -> Any:
    from venuemesh.v1 import risk_pb2

    return risk_pb2.RiskScope(venue=venue or "", account_id=account or "", symbol=symbol or "")


async def limit(
    session: Session,
    limit_type: Annotated[RiskLimitType, typer.Argument(help="What it bounds.", metavar="TYPE")],
    bound: Annotated[str | None, typer.Argument(help="The new bound, in the unit of its kind.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the limit instead.")] = False,
    venue: Venue = None,
    account: Scoped = None,
    symbol: Symbol = None,
    expected_version: Annotated[int | None, typer.Option(min=0, help="Refuse when it has changed since.")] = None,
    operator: Operator = None,
    reason: Reason = None,
) -> None:
    """Set, change or remove a limit."""
    from venuemesh.cli.choices import number_of
    from venuemesh.cli.parsing import optional_decimal
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import risk_pb2
    from venuemesh.v1 import risk_service_pb2 as pb

    if (bound is None) != remove:
        raise UsageFault("give a bound, or --remove")
    request = pb.UpdateLimitRequest(
        scope=_scope(venue, account, symbol),
        limit_type=number_of(limit_type, risk_pb2.RiskLimitType),
        limit=optional_decimal(bound, "BOUND"),
        expected_version=expected_version,
        operator=operator_of(operator),
        reason=reason_of(reason),
    )
    session.out.show(await session.router.call(request, pb.UpdateLimitResponse), views.limit)


async def trading(
    session: Session,
    state: Annotated[TradingState, typer.Argument(help="What is allowed from now on.")],
    venue: Venue = None,
    account: Scoped = None,
    symbol: Symbol = None,
    operator: Operator = None,
    reason: Reason = None,
) -> None:
    """Set active, reduce-only or halted for a scope. Cancels pass in each."""
    from venuemesh.cli.choices import number_of
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import risk_pb2
    from venuemesh.v1 import risk_service_pb2 as pb

    request = pb.SetTradingStateRequest(
        scope=_scope(venue, account, symbol),
        state=number_of(state, risk_pb2.TradingState),
        operator=operator_of(operator),
        reason=reason_of(reason),
    )
    session.out.show(await session.router.call(request, pb.SetTradingStateResponse), views.trading_state)


async def show_switch(session: Session) -> None:
    """Show whether it is engaged, and what is left at each venue."""
    from venuemesh.cli.views import control as views

    session.out.show(await _state(session), lambda answer: views.kill_switches(answer.risk_state))


async def engage(
    session: Session,
    venue: Venue = None,
    account: Scoped = None,
    symbol: Symbol = None,
    operator: Operator = None,
    reason: Reason = None,
    yes: Yes = False,
) -> Exit:
    """Halt a scope, everything unless narrowed, and cancel all its orders. Exits 3 until every venue has confirmed."""
    from venuemesh.cli.grids import scope as in_words
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import risk_service_pb2 as pb

    scope = _scope(venue, account, symbol)
    why = reason_of(reason)
    session.confirm(f"Halt trading and cancel all orders of {in_words(scope)}?", yes=yes)
    request = pb.EngageKillSwitchRequest(scope=scope, operator=operator_of(operator), reason=why)
    with session.out.progress("halting, cancelling, and asking the venues what is left"):
        answer = await session.router.call(request, pb.EngageKillSwitchResponse)
    session.out.show(answer, lambda found: views.kill_switch(found.kill_switch))
    left = [one.venue for one in answer.kill_switch.venues if not one.verified]
    if left:
        session.out.note(
            f"HALTED, but {', '.join(left)} did not confirm that no order is left; the mesh keeps at it: "
            "`venuemesh kill-switch show`"
        )
    return Exit.UNKNOWN if left else Exit.OK


async def release(
    session: Session,
    venue: Venue = None,
    account: Scoped = None,
    symbol: Symbol = None,
    operator: Operator = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Let trading begin again in a scope."""
    from venuemesh.cli.grids import scope as in_words
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import risk_service_pb2 as pb

    scope = _scope(venue, account, symbol)
    why = reason_of(reason)
    session.confirm(f"Let orders of {in_words(scope)} pass again?", yes=yes)
    request = pb.ReleaseKillSwitchRequest(scope=scope, operator=operator_of(operator), reason=why)
    answer = await session.router.call(request, pb.ReleaseKillSwitchResponse)
    session.out.show(answer, lambda found: views.kill_switch(found.kill_switch))
