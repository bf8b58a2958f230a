"""Sums over accounts: totals by asset, exposure by base asset or venue. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext

from aggregator.accounts import Account
from aggregator.booking import Sums
from aggregator.reading import ZERO, Margin, Scope
from aggregator.sequencing import AccountKey
from aggregator.valuation import AssetSums, Valuation, wire
from venuemesh.money import EXACT, divide, format_decimal
from venuemesh.v1 import portfolio_pb2


def totals(
    asset: str, accounts: Mapping[AccountKey, Account], valuation: Valuation, books: Sums, scope: Scope
) -> portfolio_pb2.PortfolioTotals:
    """Totals of one asset; `books` are those of all the accounts in it."""
    sums = valuation.assets.get(asset) or AssetSums()
    with localcontext(EXACT):
        balance = used = available = opening = ZERO
        missing = list(sums.missing.values())
        for key, account in accounts.items():
            balance += sum((money.total for (of, _), money in account.balances.items() if of == asset), ZERO)
            opening += account.openings.get(asset, ZERO)
            margin = account.margin if account.margin and account.margin.summary.asset == asset else None
            if margin is not None:
                used += margin.used or ZERO
                available += margin.available or ZERO
            missing += _unknown(key, account, asset, margin, valuation)
        equity = balance + sums.unrealized
        fees, funding = sums.fees + books.fees, sums.funding + books.funding
        explained = opening + sums.realized - fees + funding + books.transfers + books.traded
    totals = portfolio_pb2.PortfolioTotals(
        asset=asset,
        equity=wire(equity),
        balance=wire(balance),
        margin_used=wire(used),
        margin_available=wire(available),
        realized_pnl=wire(sums.realized),
        unrealized_pnl=wire(sums.unrealized),
        fees_paid=wire(fees),
        funding_received=wire(funding),
        gross_exposure=wire(sums.gross),
        net_exposure=wire(sums.net),
        transfers=wire(books.transfers),
        traded=wire(books.traded),
        leaves_out=sorted(missing),
    )
    if not scope.symbols:
        totals.opening_balance = wire(opening)
        totals.unexplained = wire(EXACT.subtract(balance, explained))
    if equity > 0:
        totals.leverage = format_decimal(divide(sums.gross, equity))
    return totals


def _unknown(key: AccountKey, account: Account, asset: str, margin: Margin | None, valuation: Valuation) -> list[str]:
    """What the totals of `asset` lack of one account."""
    unknown = []
    if margin is not None:
        given = (("margin_used", margin.used), ("margin_available", margin.available))
        unknown = [name for name, value in given if value is None]
    settles = any(valuation.settles_in(key, symbol, asset) for symbol in account.symbols)
    if settles and margin is None:
        unknown = ["margin_used", "margin_available"]
    if settles and not any(of == asset for of, _ in account.balances):
        unknown.append("balance")
    return [f"{name} of {key[0]}/{key[1]}: not known" for name in unknown]


def exposures(valuation: Valuation, *, by_venue: bool) -> list[portfolio_pb2.Exposure]:
    """Exposure by base asset or venue, largest first; positions without a mark are left out."""
    gross: dict[str, list[_Amounts]] = {}
    with localcontext(EXACT):
        for key, holding, notional in valuation.holdings():
            name = key[0] if by_venue else holding.position.symbol.partition("/")[0]
            if notional:
                gross.setdefault(name, []).append(_Amounts(abs(notional), notional))
        sums = {name: _sum_up(amounts) for name, amounts in gross.items()}
        whole = sum((amounts.gross for amounts in sums.values()), ZERO)
    return [
        portfolio_pb2.Exposure(
            key=name,
            gross=wire(amounts.gross),
            net=wire(amounts.net),
            share_bps=format_decimal(divide(EXACT.multiply(amounts.gross, 10_000), whole)),
        )
        for name, amounts in sorted(sums.items(), key=lambda item: (-item[1].gross, item[0]))
    ]


@dataclass(frozen=True, slots=True)
class _Amounts:
    gross: Decimal
    net: Decimal


def _sum_up(amounts: Iterable[_Amounts]) -> _Amounts:
    gross = net = ZERO
    for part in amounts:
        gross += part.gross
        net += part.net
    return _Amounts(gross, net)
