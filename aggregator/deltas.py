"""Portfolio deltas: joined into one, and made from an event alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from venuemesh.v1 import event_pb2, portfolio_pb2, portfolio_service_pb2, stream_pb2


def merge_deltas(
    old: portfolio_service_pb2.PortfolioDelta, new: portfolio_service_pb2.PortfolioDelta
) -> portfolio_service_pb2.PortfolioDelta:
    """One delta that does what `old` and then `new` do. Neither may carry an event."""
    merged = portfolio_service_pb2.PortfolioDelta(
        accounts=_merged_accounts(old.accounts, new.accounts),
        net_positions=_latest((*old.net_positions, *new.net_positions), lambda net: net.symbol),
        totals=_latest((*old.totals, *new.totals), lambda totals: totals.asset),
        stale_parts_changed=old.stale_parts_changed or new.stale_parts_changed,
    )
    source = new if new.stale_parts_changed else old
    merged.stale_parts.extend(source.stale_parts)
    return merged


def _merged_accounts(
    old: Iterable[portfolio_pb2.PortfolioAccount], new: Iterable[portfolio_pb2.PortfolioAccount]
) -> list[portfolio_pb2.PortfolioAccount]:
    accounts = {(account.venue, account.account_id): account for account in old}
    for account in new:
        key = (account.venue, account.account_id)
        before = accounts.get(key)
        accounts[key] = account if before is None else _merged_account(before, account)
    return list(accounts.values())


def _merged_account(
    old: portfolio_pb2.PortfolioAccount, new: portfolio_pb2.PortfolioAccount
) -> portfolio_pb2.PortfolioAccount:
    merged = portfolio_pb2.PortfolioAccount(
        venue=new.venue,
        account_id=new.account_id,
        position=new.position,
        fill_count=new.fill_count,
        restatement_count=new.restatement_count,
        balances=_latest((*old.balances, *new.balances), lambda balance: (balance.asset, balance.venue_section)),
        positions=_latest((*old.positions, *new.positions), lambda position: position.symbol),
        orders=_latest((*old.orders, *new.orders), lambda order: order.order_id),
    )
    for source in (new, old):
        if source.HasField("summary"):
            merged.summary.CopyFrom(source.summary)
            break
    return merged


def _latest(entries: Iterable[Any], key: Callable[[Any], Hashable]) -> list[Any]:
    return list({key(entry): entry for entry in entries}.values())


def bare_delta(event: event_pb2.Event, fill_count: int, restatement_count: int) -> portfolio_service_pb2.PortfolioDelta:
    """What `event` says by itself: its account's entry, without net positions, totals and stale parts.

    A catch-up consists of these and ends with `Portfolio.refresh`, which brings the rest up to date.
    """
    account = portfolio_pb2.PortfolioAccount(
        venue=event.venue,
        account_id=event.account_id,
        position=stream_pb2.StreamPosition(epoch=event.epoch, sequence=event.sequence),
        fill_count=fill_count,
        restatement_count=restatement_count,
    )
    match event.WhichOneof("payload"):
        case "execution_report":
            if event.execution_report.HasField("order"):
                account.orders.append(event.execution_report.order)
        case "position":
            account.positions.append(event.position)
        case "balance":
            account.balances.append(event.balance)
        case "account_summary":
            account.summary.CopyFrom(event.account_summary)
    return portfolio_service_pb2.PortfolioDelta(event=event, accounts=[account])
