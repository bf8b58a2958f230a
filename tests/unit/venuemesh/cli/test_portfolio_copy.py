"""The client's copy of the portfolio."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.aggregator.gateway_events import PortfolioClient
from venuemesh.cli.portfolio_copy import PortfolioCopy
from venuemesh.cli.views.money import portfolio as shown
from venuemesh.v1 import account_pb2, order_pb2, portfolio_pb2, portfolio_service_pb2, stream_pb2

Response = portfolio_service_pb2.StreamPortfolioResponse
VENUES, SYMBOLS = ("hyperliquid", "lighter"), ("BTC/USDC:USDC", "ETH/USDC:USDC")


def account(venue: str, symbol: str, quantity: str, *, order: str = "", ended: bool = False) -> object:
    """An account with what changed."""
    found = portfolio_pb2.PortfolioAccount(venue=venue, account_id="main")
    found.positions.add(venue=venue, account_id="main", symbol=symbol, quantity=quantity)
    if order:
        found.orders.add(order_id=order, terminal=ended)
    return found


@given(
    st.lists(
        st.tuples(
            st.sampled_from(VENUES), st.sampled_from(SYMBOLS), st.integers(-5, 5), st.sampled_from("abc"), st.booleans()
        ),
        max_size=30,
    )
)
@settings(max_examples=100, deadline=None)
def test_copy_holds_the_last_word_of_every_key(
    changes: list[tuple[str, str, int, str, bool]],
) -> None:
    """Whatever the order of changes: an entry replaces the one of its key, a terminal order leaves."""
    copy = PortfolioCopy()
    copy.take(Response(header=stream_pb2.StreamHeader(epoch="e", sequence=1), snapshot=portfolio_pb2.Portfolio()))
    held: dict[tuple[str, str], str] = {}
    working: set[tuple[str, str]] = set()
    for number, (venue, symbol, quantity, order, ended) in enumerate(changes, start=2):
        change = account(venue, symbol, str(quantity), order=order, ended=ended)
        delta = portfolio_service_pb2.PortfolioDelta(accounts=[change])  # type: ignore[list-item]
        assert copy.take(Response(header=stream_pb2.StreamHeader(epoch="e", sequence=number), delta=delta))
        held[venue, symbol] = str(quantity)
        (working.discard if ended else working.add)((venue, order))
    accounts = copy.portfolio.accounts
    assert {(one.venue, p.symbol): p.quantity for one in accounts for p in one.positions} == held
    assert {(one.venue, order.order_id) for one in accounts for order in one.orders} == working
    assert [one.venue for one in accounts] == sorted(one.venue for one in accounts)
    assert copy.position == stream_pb2.StreamPosition(epoch="e", sequence=len(changes) + 1)


def test_copy_takes_every_field_of_an_account() -> None:
    """A field that the contract gets later is not forgotten here: what a change says of an account, the copy says."""
    change = portfolio_pb2.PortfolioAccount(
        venue="lighter",
        account_id="main",
        position=stream_pb2.StreamPosition(epoch="e", sequence=9),
        balances=[account_pb2.Balance(asset="USDC", total="1")],
        positions=[account_pb2.Position(symbol="BTC/USDC:USDC", quantity="1")],
        orders=[order_pb2.Order(order_id="a")],
        summary=account_pb2.AccountSummary(asset="USDC"),
        fill_count=3,
        restatement_count=2,
    )
    assert {field.name for field, _ in change.ListFields()} == set(change.DESCRIPTOR.fields_by_name)
    delta = portfolio_service_pb2.PortfolioDelta(accounts=[change])
    copy, client = PortfolioCopy(), PortfolioClient()
    copy.take(Response(snapshot=portfolio_pb2.Portfolio()))
    copy.take(Response(delta=delta))
    client.take(Response(delta=delta))
    assert list(copy.portfolio.accounts) == list(client.portfolio.accounts) == [change]


def test_copy_when_a_snapshot_comes_forgets_what_was_before() -> None:
    """As after a resume that could not be served."""
    copy = PortfolioCopy()
    totals = portfolio_pb2.PortfolioTotals(asset="USDC", equity="1")
    delta = portfolio_service_pb2.PortfolioDelta(totals=[totals])
    assert copy.take(Response(delta=delta)) and not copy.known
    assert copy.take(Response(snapshot=portfolio_pb2.Portfolio())) and copy.known
    assert not copy.portfolio.totals
    assert not copy.take(Response(heartbeat=stream_pb2.StreamHeartbeat()))


def test_copy_when_stale_parts_change_replaces_them_all() -> None:
    """And leaves them where the change does not speak of them."""
    copy = PortfolioCopy()
    stale = portfolio_pb2.StalePart(part="lighter/main", cause="link down")
    copy.take(Response(snapshot=portfolio_pb2.Portfolio(stale_parts=[stale])))
    copy.take(Response(delta=portfolio_service_pb2.PortfolioDelta()))
    assert any("STALE lighter/main" in str(part) for part in shown(copy.portfolio))
    copy.take(Response(delta=portfolio_service_pb2.PortfolioDelta(stale_parts_changed=True)))
    assert not copy.portfolio.stale_parts


def test_portfolio_names_what_its_totals_leave_out() -> None:
    """A sum that lacks something says so."""
    totals = portfolio_pb2.PortfolioTotals(asset="USDC", equity="1", leaves_out=["mark of X"])
    net = portfolio_pb2.NetPosition(symbol="X/USDC:USDC", quantity="0", gross_quantity="2")
    net.positions.append(account_pb2.Position(venue="lighter", account_id="main", quantity="1"))
    found = portfolio_pb2.Portfolio(totals=[totals], net_positions=[net])
    found.accounts.add(venue="lighter", account_id="main").orders.append(order_pb2.Order(order_id="a"))
    text = [str(part) for part in shown(found)]
    assert any("USDC leaves out: mark of X" in part for part in text)
    assert any("lighter/main:1" in part for part in text)
    assert any("1 order working" in part for part in text)
