"""Orders and what became of acts on them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from venuemesh.cli.advice import advice
from venuemesh.cli.grids import ABSENT, Facts, Grid, Part, given, moment, word, words
from venuemesh.v1 import error_pb2, order_pb2


def order_rows(orders: Sequence[Any]) -> Grid:
    """Orders, a line each."""
    columns = (
        "client order id",
        "venue",
        "symbol",
        "side",
        "type",
        ">quantity",
        ">price",
        ">filled",
        ">average",
        "status",
        "created",
    )
    return Grid(columns=columns, rows=[_row(order) for order in orders], empty="no orders")


def _row(order: Any) -> tuple[str, ...]:
    terms = order.terms
    return (
        terms.client_order_id or order.order_id,
        terms.venue,
        terms.symbol,
        word(terms, "side"),
        word(terms, "order_type"),
        terms.quantity,
        given(terms, "price"),
        order.filled_quantity,
        given(order, "average_price"),
        status(order),
        moment(order.created_time),
    )


def status(order: Any) -> str:
    """Life cycle, with the flags beside it."""
    flags = [name for name in ("pending_cancel", "pending_replace") if getattr(order, name)]
    return " ".join([word(order, "status"), *(flag.replace("_", " ") for flag in flags)])


def terms_in_words(terms: Any) -> str:
    """What an order asks for, in one line."""
    parts = [word(terms, "side").lower(), terms.quantity, terms.symbol, word(terms, "order_type").lower()]
    if terms.HasField("price"):
        parts.append(f"at {terms.price}")
    if terms.HasField("trigger"):
        parts.append(f"when {word(terms.trigger, 'price_type').lower() or 'the price'} reaches {terms.trigger.price}")
    if terms.time_in_force:
        parts.append(word(terms, "time_in_force"))
    parts += [one.lower() for one in _instructions(terms).split()]
    where = f"on {terms.venue}" if terms.venue else "where the router chooses"
    return f"{' '.join(parts)}, {where}, account {terms.account_id}"


def _instructions(terms: Any) -> str:
    return words(order_pb2.ExecutionInstruction.DESCRIPTOR, terms.instructions)


def order_facts(order: Any) -> Facts:
    """One order in full."""
    terms = order.terms
    rows = [
        ("client order id", terms.client_order_id),
        ("order id", order.order_id),
        ("venue order id", " ".join(order.venue_order_ids)),
        ("account", terms.account_id),
        ("venue", terms.venue),
        ("symbol", terms.symbol),
        ("side", word(terms, "side")),
        ("type", word(terms, "order_type")),
        ("quantity", terms.quantity),
        ("price", given(terms, "price")),
        ("trigger", terms.trigger.price if terms.HasField("trigger") else ABSENT),
        ("trigger state", word(order, "trigger_state")),
        ("time in force", word(terms, "time_in_force")),
        ("instructions", _instructions(terms)),
        ("status", status(order)),
        ("filled", order.filled_quantity),
        ("leaves", order.leaves_quantity),
        ("average price", given(order, "average_price")),
        ("fees", ", ".join(f"{fee.amount} {fee.asset}" for fee in order.fees)),
        ("version", str(order.order_version) if order.order_version else ABSENT),
        ("created", moment(order.created_time)),
        ("updated", moment(order.updated_time)),
        ("uncertain since", moment(order.uncertain_since)),
        ("tags", " ".join(f"{key}={value}" for key, value in sorted(terms.tags.items()))),
    ]
    return Facts(rows=[*rows, *(reject_rows(order.reject) if order.HasField("reject") else ())])


def reject_rows(reject: Any) -> list[tuple[str, str]]:
    """Why something was refused, and what to do."""
    reason = reason_word(reject.reason)
    return [("reason", reason), ("why", reject.message), ("venue says", reject.venue_text), ("do", advice(reason))]


def reason_word(number: int) -> str:
    """A reason of the contract as errors spell it."""
    from venuemesh.cli.grids import enum_word

    return enum_word(error_pb2.Reason.DESCRIPTOR, number)


def submitted(answer: Any) -> list[Part]:
    """What is known about a submit, an amendment or a cancel."""
    head = [("outcome", word(answer, "outcome"))]
    if getattr(answer, "replayed", False):
        head.append(("replayed", "this key was used before; this is its result, nothing was sent now"))
    if answer.HasField("reject"):
        head += reject_rows(answer.reject)
    parts: list[Part] = [Facts(rows=head)]
    return [*parts, order_facts(answer.order)] if answer.HasField("order") else parts


def shown(answer: Any, fills: Sequence[Any]) -> list[Part]:
    """An order with its fills."""
    return [order_facts(answer.order), fill_rows(fills)] if fills else [order_facts(answer.order)]


def fill_rows(fills: Sequence[Any]) -> Grid:
    """Fills, a line each."""
    columns = ("time", "venue", "symbol", "side", ">quantity", ">price", ">fee", "asset", "role", "execution id")
    rows = [
        (
            moment(fill.venue_time),
            fill.venue,
            fill.symbol,
            word(fill, "side"),
            fill.quantity,
            fill.price,
            fill.fee,
            fill.fee_asset,
            word(fill, "liquidity_role"),
            fill.execution_id,
        )
        for fill in fills
    ]
    return Grid(columns=columns, rows=rows, title="fills", empty="none")


def canceled(answer: Any) -> list[Part]:
    """What became of every order of a cancel-all."""
    rows = [
        (
            one.order.terms.client_order_id or one.order.order_id,
            one.order.terms.venue,
            one.order.terms.symbol,
            word(one, "outcome"),
            status(one.order),
            one.reject.message if one.HasField("reject") else "",
        )
        for one in answer.results
    ]
    columns = ("client order id", "venue", "symbol", "outcome", "status", "why")
    parts: list[Part] = [Grid(columns=columns, rows=rows, empty="nothing was working")]
    if answer.unreached:
        parts.append("NOT REACHED, what works there is not cancelled: " + "; ".join(answer.unreached))
    return parts


def previewed(answer: Any) -> list[Part]:
    """What would refuse an order."""
    if not answer.rejects:
        return ["it would be sent"]
    return [Facts(rows=reject_rows(reject)) for reject in answer.rejects]


def report(message: Any) -> str:
    """One change of an order in one line; empty for what is no change."""
    body = message.WhichOneof("body")
    if body == "snapshot":
        found = message.snapshot
    elif body == "event" and message.event.WhichOneof("payload") == "execution_report":
        found = message.event.execution_report
    else:
        return ""
    order = found.order
    what = word(found, "execution_type")
    fill = f" {found.fill.quantity} at {found.fill.price}" if found.HasField("fill") else ""
    key = order.terms.client_order_id or found.fill.venue_order_id
    text = f"{key} {what}{fill}: {status(order)}, {order.filled_quantity or '0'} of {order.terms.quantity} filled"
    return f"{text} ({found.text})" if found.text else text
