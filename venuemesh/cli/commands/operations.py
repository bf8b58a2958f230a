"""`stuck`, `audit`, `dead-letters`: what needs a person."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from venuemesh.cli.choices import AuditOutcome, Resolution
from venuemesh.cli.commands.given import (
    Account,
    ClientOrderId,
    Limit,
    Operator,
    OrderId,
    Reason,
    Since,
    Until,
    Venue,
    VenueOrderId,
    Yes,
    operator_of,
    reason_of,
)
from venuemesh.cli.options import command, group
from venuemesh.cli.session import Session

Scoped = Annotated[str | None, typer.Option("--account", "-a", help="Only this account; all unless set.")]


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    stuck = typer.Typer(help="Orders nobody can tell the state of; alone it lists them.")
    group(stuck)(list_stuck)
    command(stuck, "list")(list_stuck)
    command(stuck, "resolve")(resolve)
    app.add_typer(stuck, name="stuck")
    command(app, "audit")(audit)
    letters = typer.Typer(help="Events a service could not handle; alone it lists them.")
    group(letters)(list_letters)
    command(letters, "list")(list_letters)
    command(letters, "requeue")(requeue)
    app.add_typer(letters, name="dead-letters")


async def list_stuck(
    session: Session,
    longer_than: Annotated[
        str | None, typer.Option("--for", help="Only those in doubt this long, such as 30s.")
    ] = None,
    account: Scoped = None,
    venue: Venue = None,
    limit: Limit = 100,
) -> None:
    """List uncertain orders with the evidence about each, longest in doubt first."""
    from venuemesh.cli.parsing import span_ns
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import reconciliation_service_pb2 as pb

    request: Any = pb.ListUncertainOrdersRequest(account_id=account or "", venue=venue or "")
    if longer_than is not None:
        request.uncertain_for.FromNanoseconds(span_ns(longer_than, "--for"))
    answer = await session.router.pages(request, pb.ListUncertainOrdersResponse, "uncertain_orders", limit)
    session.out.show(answer, views.stuck)


async def resolve(
    session: Session,
    by: Annotated[Resolution, typer.Option("--by", help="What to do.")],
    key: ClientOrderId = None,
    order_id: OrderId = None,
    venue_order_id: VenueOrderId = None,
    account: Account = None,
    venue: Venue = None,
    operator: Operator = None,
    reason: Reason = None,
    request_id: Annotated[str | None, typer.Option(help="Idempotency key of this act; made up unless set.")] = None,
    yes: Yes = False,
) -> None:
    """Settle an uncertain order by asking, by force, or by your word. It is journalled with your reason."""
    from venuemesh.cli.choices import number_of
    from venuemesh.cli.commands.orders import reference
    from venuemesh.cli.views import orders as views
    from venuemesh.v1 import reconciliation_service_pb2 as pb

    target = await reference(session, key, order_id, venue_order_id, account, venue)
    why = reason_of(reason)
    if by is not Resolution.QUERY:
        session.confirm(f"Settle {key or order_id or venue_order_id} by {by.value}?", yes=yes)
    request = pb.ResolveUncertainOrderRequest(
        reference=target,
        resolution=number_of(by, pb.Resolution),
        operator=operator_of(operator),
        reason=why,
        request_id=request_id or uuid.uuid4().hex,
    )
    session.out.note(f"request id {request.request_id}")
    with session.out.progress("asking the venue"):
        answer = await session.router.call(request, pb.ResolveUncertainOrderResponse)
    session.out.show(answer, lambda found: [views.order_facts(found.order)])


async def audit(
    session: Session,
    venue: Venue = None,
    account: Scoped = None,
    order_id: Annotated[str | None, typer.Option("--order-id", help="Only about this order, by the mesh's id.")] = None,
    outcome: Annotated[AuditOutcome | None, typer.Option("--outcome", help="Only those that ended so.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
) -> None:
    """List what was said to venues, newest first. JSON has requests and answers in full, secrets removed."""
    from venuemesh.cli.choices import number_of
    from venuemesh.cli.parsing import instant_ns
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import operations_pb2
    from venuemesh.v1 import operations_service_pb2 as pb

    request: Any = pb.ListAuditEntriesRequest(
        venue=venue or "",
        account_id=account or "",
        order_id=order_id or "",
        outcome=number_of(outcome, operations_pb2.AuditOutcome),
    )
    now_ns = session.clock.now_ns()
    if since is not None:
        request.from_time.FromNanoseconds(instant_ns(since, "--since", now_ns=now_ns))
    if until is not None:
        request.to_time.FromNanoseconds(instant_ns(until, "--until", now_ns=now_ns))
    answer = await session.router.pages(request, pb.ListAuditEntriesResponse, "audit_entries", limit)
    session.out.show(answer, views.audit)


async def list_letters(session: Session, limit: Limit = 100) -> None:
    """List dead letters of all services, oldest first."""
    from venuemesh.cli.views import control as views
    from venuemesh.v1 import operations_service_pb2 as pb

    request = pb.ListDeadLettersRequest()
    answer = await session.router.pages(request, pb.ListDeadLettersResponse, "dead_letters", limit)
    session.out.show(answer, views.dead_letters)


async def requeue(
    session: Session,
    number: Annotated[int, typer.Argument(min=1, help="Number of the letter.")],
    operator: Operator = None,
    reason: Reason = None,
) -> None:
    """Put a dead letter back for its readers; a repeat does nothing."""
    from venuemesh.cli.grids import Facts
    from venuemesh.v1 import operations_service_pb2 as pb

    request = pb.RequeueDeadLetterRequest(
        stream_sequence=number, operator=operator_of(operator), reason=reason_of(reason)
    )
    answer = await session.router.call(request, pb.RequeueDeadLetterResponse)
    before = "yes, nothing was published now" if answer.already_requeued else ""
    session.out.show(answer, lambda found: [Facts(rows=[("subject", found.subject), ("put back before", before)])])
