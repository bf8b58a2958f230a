"""A client's copy of the portfolio: the snapshot, and every change laid over it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from venuemesh.v1 import portfolio_pb2, stream_pb2


class PortfolioCopy:
    """Folds messages of StreamPortfolio as `PortfolioDelta` says: an entry replaces the one of the same key."""

    def __init__(self) -> None:
        self.portfolio = portfolio_pb2.Portfolio()
        self.position: stream_pb2.StreamPosition | None = None
        """Where to resume; None before the first state."""
        self.known = False

    def take(self, message: Any) -> bool:
        """Fold one message; whether there is something new to show."""
        body = message.WhichOneof("body")
        if body == "snapshot":
            self.portfolio.CopyFrom(message.snapshot)
            self.known = True
        elif body == "delta":
            self._change(message.delta)
        if message.header.sequence:
            self.position = stream_pb2.StreamPosition(epoch=message.header.epoch, sequence=message.header.sequence)
            self.portfolio.position.CopyFrom(self.position)
        return body in {"snapshot", "delta"}

    def _change(self, delta: Any) -> None:
        mine = self.portfolio
        for account in delta.accounts:
            self._change_account(account)
        _lay_over(mine.net_positions, delta.net_positions, lambda one: one.symbol)
        _lay_over(mine.totals, delta.totals, lambda one: one.asset)
        if delta.stale_parts_changed:
            del mine.stale_parts[:]
            mine.stale_parts.extend(delta.stale_parts)
        if delta.HasField("event"):
            mine.as_of_time.CopyFrom(delta.event.published_time)

    def _change_account(self, change: Any) -> None:
        accounts = self.portfolio.accounts
        key = (change.venue, change.account_id)
        mine = next((one for one in accounts if (one.venue, one.account_id) == key), None)
        if mine is None:
            accounts.add(venue=change.venue, account_id=change.account_id)
            accounts.sort(key=lambda one: (one.venue, one.account_id))
            mine = next(one for one in accounts if (one.venue, one.account_id) == key)
        _lay_over(mine.balances, change.balances, lambda one: (one.venue_section, one.asset))
        _lay_over(mine.positions, change.positions, lambda one: one.symbol)
        _lay_over(mine.orders, change.orders, lambda one: one.order_id)
        ended = [place for place, order in enumerate(mine.orders) if order.terminal]
        for place in reversed(ended):
            del mine.orders[place]
        if change.HasField("position"):
            mine.position.CopyFrom(change.position)
        if change.HasField("summary"):
            mine.summary.CopyFrom(change.summary)
        mine.fill_count, mine.restatement_count = change.fill_count, change.restatement_count


def _lay_over(mine: Any, changed: Any, key: Callable[[Any], Any]) -> None:
    places = {key(one): place for place, one in enumerate(mine)}
    for one in changed:
        if key(one) in places:
            mine[places[key(one)]].CopyFrom(one)
        else:
            mine.add().CopyFrom(one)
    if changed:
        mine.sort(key=key)
