"""Accounts, instruments, venue, reconciliation and operations of a gateway over a fake venue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes_venue import BTC, ETH, VENUE, FakeVenue, Held, Lost, instrument
from tests.unit.venuemesh.gateway.gateway_world import Caller, World, collect, gateway, take, until
from venuemesh.errors import (
    AccountNotFound,
    InstrumentNotFound,
    InvalidRequest,
    NotSupported,
    Reason,
    Reconciling,
    ResumeExpired,
    VenueRejected,
)
from venuemesh.gateway.reconcile import make_discrepancy
from venuemesh.gateway.services import history
from venuemesh.gateway.venue import LeverageSetting, Refused
from venuemesh.gateway.venue_offers import FeeRates
from venuemesh.paging import Pager
from venuemesh.v1 import (
    account_pb2,
    instrument_pb2,
    operations_pb2,
    order_pb2,
    reconciliation_pb2,
    stream_pb2,
    venue_pb2,
)
from venuemesh.v1 import account_service_pb2 as accounts
from venuemesh.v1 import instrument_service_pb2 as instruments
from venuemesh.v1 import operations_service_pb2 as operations
from venuemesh.v1 import reconciliation_service_pb2 as reconciliation
from venuemesh.v1 import venue_service_pb2 as venues

CALLER = Caller()
ISOLATED, CROSS = instrument_pb2.MARGIN_MODE_ISOLATED, instrument_pb2.MARGIN_MODE_CROSS


# accounts


async def test_accounts_show_money_positions_and_a_place_to_resume_from() -> None:
    """What the venue said, what fills made of it."""
    async with gateway() as world:
        world.venue.balances = [
            account_pb2.Balance(account_id="main", venue=VENUE, asset="USDC", total="10", available="9")
        ]
        await world.core.reconciler.reconcile("main")
        await world.submit("key-1")
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.4", "100")
        await world.durable()
        listed = (await world.accounts.ListAccounts(accounts.ListAccountsRequest(), CALLER)).accounts
        read = (await world.accounts.GetAccount(accounts.GetAccountRequest(account_id="main"), CALLER)).account
        assert list(listed) == [read]
        assert (read.venue_account, read.summary.equity) == ("0xmain", "1000")
        assert read.position == stream_pb2.StreamPosition(
            epoch=world.core.log.epoch, sequence=world.core.log.sequence("main")
        )
        balances = await world.accounts.ListBalances(accounts.ListBalancesRequest(account_id="main"), CALLER)
        assert [(row.asset, row.available) for row in balances.balances] == [("USDC", "9")]
        request = accounts.ListPositionsRequest(account_id="main")
        assert [
            (row.symbol, row.quantity) for row in (await world.accounts.ListPositions(request, CALLER)).positions
        ] == [(BTC, "0.4")]
        request.symbols.append(ETH)
        assert list((await world.accounts.ListPositions(request, CALLER)).positions) == []
        with pytest.raises(AccountNotFound):
            await world.accounts.GetAccount(accounts.GetAccountRequest(account_id="nobody"), CALLER)


async def test_fee_rates_are_the_accounts_where_the_venue_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the instrument's, and the answer says which; a venue that tells nothing says so."""
    request = accounts.GetFeeRatesRequest(account_id="main", symbol=BTC)

    async def told(self: Any, account_id: str, wanted: instrument_pb2.Instrument) -> FeeRates:
        return FeeRates(maker=Decimal("-0.00001"), taker=Decimal("0.0003"))

    async with gateway() as world:
        base = await world.accounts.GetFeeRates(request, CALLER)
        monkeypatch.setattr(type(world.venue), "fetch_fee_rates", told, raising=False)
        own = await world.accounts.GetFeeRates(request, CALLER)
        with pytest.raises(InstrumentNotFound):
            await world.accounts.GetFeeRates(accounts.GetFeeRatesRequest(account_id="main", symbol="X"), CALLER)
    assert (base.maker_fee_rate, base.taker_fee_rate, base.of_account) == ("0.0001", "0.0005", False)
    assert (own.maker_fee_rate, own.taker_fee_rate, own.of_account) == ("-0.00001", "0.0003", True)


async def _fill_many(world: World, count: int) -> list[str]:
    """Fills of one order each, alternating symbols; their ids, oldest first."""
    names = []
    for number in range(count):
        world.clock.advance(1.0)
        await world.submit(f"key-{number}", symbol=ETH if number % 3 else BTC)
        order = world.venue.order_of(world.venue.placed[-1])
        names.append(world.venue.fill(order, "1", "100").execution_id)
    await world.durable()
    return names


async def _all_fills(world: World, **fields: Any) -> list[str]:
    names, token = [], ""
    for _ in range(200):
        request = accounts.ListFillsRequest(account_id="main", page_token=token, **fields)
        response = await world.accounts.ListFills(request, CALLER)
        assert len(response.fills) <= (request.page_size or 100)
        names += [fill.execution_id for fill in response.fills]
        token = response.next_page_token
        if not token:
            return names
    raise AssertionError("pages never end")


@pytest.mark.parametrize("size", [0, 1, 4])
async def test_list_fills_pages_give_each_once_newest_first(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read backwards in chunks; a page that found little is short and goes on."""
    monkeypatch.setattr(history, "FIRST_CHUNK", 5)
    monkeypatch.setattr(history, "LARGEST_CHUNK", 10)
    monkeypatch.setattr(history, "MAX_SCAN", 17)
    async with gateway() as world:
        names = await _fill_many(world, 12)
        assert await _all_fills(world, page_size=size) == names[::-1]
        assert await _all_fills(world, page_size=size, symbol=BTC) == [names[n] for n in (9, 6, 3, 0)]
        order = world.account.order_by_key("key-5")
        assert order is not None
        assert await _all_fills(world, order_id=order.order_id) == [names[5]]


async def test_list_fills_within_a_time_range_reads_no_further_back() -> None:
    """[from, to) of the venue's time."""
    async with gateway() as world:
        names = await _fill_many(world, 5)
        times = [fill.venue_time_ns for fill in world.venue.fills["main"]]
        request = accounts.ListFillsRequest(account_id="main")
        request.from_time.FromNanoseconds(times[1])
        request.to_time.FromNanoseconds(times[3])
        rows = (await world.accounts.ListFills(request, CALLER)).fills
        assert [row.execution_id for row in rows] == [names[2], names[1]]
        request.to_time.FromNanoseconds(times[1])
        with pytest.raises(InvalidRequest) as caught:
            await world.accounts.ListFills(request, CALLER)
        assert caught.value.field == "to_time"


async def test_list_fills_when_old_events_expired_ends_with_the_oldest_kept() -> None:
    """What retention took is not asked for."""
    async with gateway() as world:
        names = await _fill_many(world, 6)
        world.bus.expire(12)
        kept = await _all_fills(world, page_size=2)
        assert kept == names[::-1][: len(kept)]
        assert 0 < len(kept) < 6


@pytest.mark.parametrize("size", [0, 1, 3])
async def test_list_ledger_entries_pages_give_each_once_oldest_first(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Funding and transfers in the order they happened."""
    monkeypatch.setattr(history, "MAX_SCAN", 9)
    async with gateway() as world:
        for number in range(7):
            world.clock.advance(1.0)
            world.venue.fund("main", f"f{number}", "-0.5")
            await world.submit(f"key-{number}")
        await world.durable()
        names, token = [], ""
        for _ in range(50):
            request = accounts.ListLedgerEntriesRequest(account_id="main", page_size=size, page_token=token)
            response = await world.accounts.ListLedgerEntries(request, CALLER)
            names += [row.ledger_entry_id for row in response.ledger_entries]
            token = response.next_page_token
            if not token:
                break
        assert names == [f"f{number}" for number in range(7)]
        request = accounts.ListLedgerEntriesRequest(
            account_id="main", ledger_entry_types=[account_pb2.LEDGER_ENTRY_TYPE_DEPOSIT]
        )
        assert list((await world.accounts.ListLedgerEntries(request, CALLER)).ledger_entries) == []
        request.ledger_entry_types[:] = [0]
        with pytest.raises(InvalidRequest):
            await world.accounts.ListLedgerEntries(request, CALLER)


async def test_set_leverage_keeps_the_mode_and_set_mode_keeps_the_leverage() -> None:
    """Venues set both together; the other one is read from the venue and kept."""
    async with gateway() as world:
        mode = accounts.SetMarginModeRequest(account_id="main", symbol=BTC, margin_mode=ISOLATED)
        leverage = accounts.SetLeverageRequest(account_id="main", symbol=BTC, leverage="5")
        assert (await world.accounts.SetLeverage(leverage, CALLER)).leverage == "5"
        assert (await world.accounts.SetMarginMode(mode, CALLER)).margin_mode == ISOLATED
        leverage.leverage = "7"
        await world.accounts.SetLeverage(leverage, CALLER)
        assert world.venue.leverages == [
            ("main", BTC, 5, True),
            ("main", BTC, 5, False),
            ("main", BTC, 7, False),
        ]
        elsewhere = LeverageSetting(leverage=Decimal(3), margin_mode=CROSS)
        world.venue.leverage_settings[("main", BTC)] = elsewhere
        await world.accounts.SetMarginMode(mode, CALLER)
        assert world.venue.leverages[-1] == ("main", BTC, 3, False)


async def test_set_leverage_and_mode_when_already_so_send_nothing() -> None:
    """A call that changes nothing costs budget that orders need."""
    async with gateway() as world:
        leverage = accounts.SetLeverageRequest(account_id="main", symbol=BTC, leverage="20")
        assert (await world.accounts.SetLeverage(leverage, CALLER)).leverage == "20"
        mode = accounts.SetMarginModeRequest(account_id="main", symbol=BTC, margin_mode=CROSS)
        assert (await world.accounts.SetMarginMode(mode, CALLER)).margin_mode == CROSS
        assert world.venue.leverages == []


@pytest.mark.parametrize(
    ("leverage", "reason"),
    [
        ("0", Reason.LEVERAGE_OUT_OF_RANGE),
        ("51", Reason.LEVERAGE_OUT_OF_RANGE),
        ("2.5", Reason.INVALID_ARGUMENT),
        ("x", Reason.INVALID_DECIMAL),
        ("", Reason.REQUIRED_FIELD_MISSING),
    ],
)
async def test_set_leverage_when_out_of_range_is_refused_before_send(leverage: str, reason: Reason) -> None:
    """From 1 to the instrument's highest."""
    async with gateway() as world:
        request = accounts.SetLeverageRequest(account_id="main", symbol=BTC, leverage=leverage)
        with pytest.raises(InvalidRequest) as caught:
            await world.accounts.SetLeverage(request, CALLER)
        assert (caught.value.reason, caught.value.field) == (reason, "leverage")
        assert world.venue.leverages == []


async def test_set_leverage_when_the_venue_refuses_tells_its_words() -> None:
    """Its no is an error with its reason; spot has no leverage at all."""
    async with gateway() as world:
        world.venue.script("set_leverage", Refused(reason=Reason.INSUFFICIENT_MARGIN, text="too much"))
        request = accounts.SetLeverageRequest(account_id="main", symbol=BTC, leverage="5")
        with pytest.raises(VenueRejected) as caught:
            await world.accounts.SetLeverage(request, CALLER)
        assert (caught.value.reason, caught.value.message) == (Reason.INSUFFICIENT_MARGIN, "too much")
        spot = instrument("HYPE/USDC")
        spot.ClearField("max_leverage")
        spot.ClearField("margin_modes")
        world.core.instruments.replace([spot])
        request.symbol = "HYPE/USDC"
        with pytest.raises(NotSupported):
            await world.accounts.SetLeverage(request, CALLER)


# instruments


async def test_list_instruments_pages_and_filters() -> None:
    """By symbol; a page begins behind the last symbol of the one before."""
    async with gateway() as world:
        world.core.instruments.replace([instrument(f"S{n:02}/USDC:USDC") for n in range(7)])
        seen, token = [], ""
        while True:
            request = instruments.ListInstrumentsRequest(page_size=3, page_token=token)
            response = await world.instruments.ListInstruments(request, CALLER)
            seen += [row.symbol for row in response.instruments]
            token = response.next_page_token
            if not token:
                break
        assert seen == [f"S{n:02}/USDC:USDC" for n in range(7)]
        request = instruments.ListInstrumentsRequest(symbols=["S03/USDC:USDC", "NOPE"])
        assert len((await world.instruments.ListInstruments(request, CALLER)).instruments) == 1
        request = instruments.ListInstrumentsRequest(instrument_type=instrument_pb2.INSTRUMENT_TYPE_SPOT)
        assert list((await world.instruments.ListInstruments(request, CALLER)).instruments) == []
        request = instruments.ListInstrumentsRequest(instrument_type=77)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest):
            await world.instruments.ListInstruments(request, CALLER)
        found = instruments.GetInstrumentRequest(symbol="S01/USDC:USDC")
        assert (await world.instruments.GetInstrument(found, CALLER)).instrument.venue_symbol == "S01"
        with pytest.raises(InstrumentNotFound):
            await world.instruments.GetInstrument(instruments.GetInstrumentRequest(symbol="NOPE"), CALLER)


# venue


async def test_venue_service_tells_capabilities_and_refuses_other_names() -> None:
    """A gateway has one venue and says which."""
    async with gateway() as world:
        rows = (await world.venues.ListVenues(venues.ListVenuesRequest(), CALLER)).venues
        assert [(row.venue, list(row.account_ids)) for row in rows] == [(VENUE, ["main"])]
        request = venues.GetCapabilitiesRequest(venue=VENUE)
        assert (await world.venues.GetCapabilities(request, CALLER)).capabilities == world.venue.capabilities
        with pytest.raises(InvalidRequest) as caught:
            await world.venues.GetVenue(venues.GetVenueRequest(venue="elsewhere"), CALLER)
        assert caught.value.reason is Reason.VENUE_NOT_FOUND


async def test_stream_venue_status_gives_the_state_then_each_change() -> None:
    """The venue going away is told at once."""
    async with gateway() as world:
        await until(lambda: world.core.status().state == venue_pb2.VENUE_STATE_TRADING)
        request = venues.StreamVenueStatusRequest(venues=[VENUE, "elsewhere"])
        async with aclosing(world.venues.StreamVenueStatus(request, CALLER)) as stream:
            first, now = await collect(stream, 2)
            assert [row.accepted for row in first.acknowledgement.results] == [True, False]
            assert now.venue_status.state == venue_pb2.VENUE_STATE_TRADING
            world.venue.go_down("socket closed")
            states = []
            while not states or states[-1] != venue_pb2.VENUE_STATE_DOWN:
                states.append((await take(stream, "venue_status")).venue_status.state)


# reconciliation


async def test_reconciliation_report_is_the_last_and_can_be_asked_for_anew() -> None:
    """The operator's own comparison waits for its result."""
    async with gateway() as world:
        request = reconciliation.TriggerReconciliationRequest(account_id="main")
        report = (await world.reconciliation.TriggerReconciliation(request, CALLER)).report
        assert report.trigger == reconciliation_pb2.RECONCILIATION_TRIGGER_OPERATOR
        last = reconciliation.GetReconciliationReportRequest(account_id="main")
        assert (await world.reconciliation.GetReconciliationReport(last, CALLER)).report == report


async def test_reconciliation_report_before_the_first_says_so() -> None:
    """Not an empty report that could pass for a clean one."""
    async with gateway(wait_ready=False) as world:
        request = reconciliation.GetReconciliationReportRequest(account_id="main")
        with pytest.raises(Reconciling):
            await world.reconciliation.GetReconciliationReport(request, CALLER)


async def test_list_uncertain_orders_pages_longest_first_and_filters_by_age() -> None:
    """With evidence, and when absence becomes proof."""
    async with gateway() as world:
        world.venue.pushing = False
        held = asyncio.Event()
        world.venue.script("fetch_order", *[Held(held)] * 10)
        for number in range(3):
            world.venue.script("place_order", Lost())
            world.clock.advance(1.0)
            await world.submit(f"key-{number}")
        request = reconciliation.ListUncertainOrdersRequest(account_id="main", page_size=2)
        first = await world.reconciliation.ListUncertainOrders(request, CALLER)
        request.page_token = first.next_page_token
        second = await world.reconciliation.ListUncertainOrders(request, CALLER)
        rows = [*first.uncertain_orders, *second.uncertain_orders]
        assert [row.order.terms.client_order_id for row in rows] == ["key-0", "key-1", "key-2"]
        assert second.next_page_token == ""
        assert rows[0].HasField("settles_time")
        request = reconciliation.ListUncertainOrdersRequest()
        request.uncertain_for.FromSeconds(2)
        rows = (await world.reconciliation.ListUncertainOrders(request, CALLER)).uncertain_orders
        assert [row.order.terms.client_order_id for row in rows] == ["key-0"]
        request.uncertain_for.FromSeconds(-1)
        with pytest.raises(InvalidRequest):
            await world.reconciliation.ListUncertainOrders(request, CALLER)
        held.set()
        await until(lambda: not world.core.resolver.uncertain_orders())


def note_differences(world: World, *accounts: str) -> None:
    """A difference in each of these accounts, a second apart."""
    for number, account_id in enumerate(accounts):
        world.clock.advance(1.0)
        found = make_discrepancy(
            reconciliation_pb2.DISCREPANCY_TYPE_POSITION,
            venue=VENUE,
            account_id=account_id,
            symbol=BTC,
            order_id="",
            ours=str(number),
            venues="0",
            restated=True,
            now_ns=world.clock.now_ns(),
        )
        world.core.accounts[account_id].report_discrepancy(found)


async def test_list_discrepancies_pages_newest_first_over_accounts_and_filters() -> None:
    """Out of what is stored, whatever else happened; new ones do not shift a page."""
    async with gateway(venue=FakeVenue(accounts=("main", "second"))) as world:
        begin_ns = world.clock.now_ns()
        note_differences(world, "main", "second", "main", "main")
        await world.submit("key-1")
        await world.durable()
        request = reconciliation.ListDiscrepanciesRequest(page_size=3)
        first = await world.reconciliation.ListDiscrepancies(request, CALLER)
        assert [row.ours for row in first.discrepancies] == ["3", "2", "1"]
        note_differences(world, "second")
        await world.durable()
        request.page_token = first.next_page_token
        second = await world.reconciliation.ListDiscrepancies(request, CALLER)
        assert ([row.ours for row in second.discrepancies], second.next_page_token) == (["0"], "")
        request = reconciliation.ListDiscrepanciesRequest(account_id="main")
        request.from_time.FromNanoseconds(begin_ns + 3 * 10**9)
        request.to_time.FromNanoseconds(begin_ns + 4 * 10**9)
        rows = (await world.reconciliation.ListDiscrepancies(request, CALLER)).discrepancies
        assert [row.ours for row in rows] == ["2"]
        with pytest.raises(AccountNotFound):
            await world.reconciliation.ListDiscrepancies(
                reconciliation.ListDiscrepanciesRequest(account_id="nobody"), CALLER
            )


async def test_stream_discrepancies_resumes_behind_a_position_and_shows_nothing_else() -> None:
    """One numbering with all events of the account, also while the account is stale."""
    async with gateway() as world:
        note_differences(world, "main")
        await world.submit("key-1")
        await world.durable()
        request = reconciliation.StreamDiscrepanciesRequest(account_id="main")
        async with aclosing(world.reconciliation.StreamDiscrepancies(request, CALLER)) as stream:
            (opened,) = await collect(stream, 1)
            assert opened.WhichOneof("body") == "acknowledgement"
            note_differences(world, "main", "main")
            live = [await take(stream, "discrepancy") for _ in range(2)]
        assert [row.discrepancy.ours for row in live] == ["0", "1"]
        request.options.resume_after.epoch = world.core.log.epoch
        request.options.resume_after.sequence = live[0].header.sequence
        async with aclosing(world.reconciliation.StreamDiscrepancies(request, CALLER)) as stream:
            assert (await take(stream, "discrepancy")).discrepancy.ours == "1"
        world.venue.go_down()
        await world.durable()
        request = reconciliation.StreamDiscrepanciesRequest(account_id="main")
        async with aclosing(world.reconciliation.StreamDiscrepancies(request, CALLER)) as stream:
            await collect(stream, 1)
            note_differences(world, "main")
            assert (await take(stream, "discrepancy")).discrepancy.ours == "0"


async def test_comparison_that_a_person_asked_for_says_who_and_why() -> None:
    """In the report, until the next one; too long a reason is refused."""
    async with gateway() as world:
        request = reconciliation.TriggerReconciliationRequest(account_id="main", operator="ops-1", reason="looks odd")
        report = (await world.reconciliation.TriggerReconciliation(request, CALLER)).report
        assert (report.operator, report.reason) == ("ops-1", "looks odd")
        request.reason = "r" * 501
        with pytest.raises(InvalidRequest) as caught:
            await world.reconciliation.TriggerReconciliation(request, CALLER)
        assert caught.value.field == "reason"


# operations


@pytest.fixture
def root_level() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = root.level
    yield root
    root.setLevel(before)


async def test_set_log_level_for_a_time_goes_back(root_level: logging.Logger) -> None:
    """Debug output ends by itself; a later wish replaces the earlier one."""
    root_level.setLevel("WARNING")
    async with gateway() as world:
        request = operations.SetLogLevelRequest(level="DEBUG")
        request.duration.FromMilliseconds(1)
        assert (await world.operations.SetLogLevel(request, CALLER)).previous_level == "WARNING"
        assert root_level.level == logging.DEBUG
        async with asyncio.timeout(60):
            while root_level.level != logging.WARNING:
                await asyncio.sleep(0.001)
        for bad in ("", "LOUD", "debug"):
            with pytest.raises(InvalidRequest) as caught:
                await world.operations.SetLogLevel(operations.SetLogLevelRequest(level=bad), CALLER)
            assert caught.value.field == "level"


async def test_list_subscribers_and_quota() -> None:
    """Readers are shown with their method; a venue without limits has no rows."""
    async with gateway() as world:
        quota = operations.GetQuotaRequest()
        assert list((await world.operations.GetQuota(quota, CALLER)).quotas) == []
        row = operations_pb2.Quota(venue=VENUE, limiter="orders", limit=10, remaining=7)
        world.venue.quota_rows.append(row)
        assert list((await world.operations.GetQuota(quota, CALLER)).quotas) == [row]
        stream = world.accounts.StreamAccountEvents(accounts.StreamAccountEventsRequest(account_id="main"), CALLER)
        async with aclosing(stream):
            await anext(stream)
            rows = (await world.operations.ListSubscribers(operations.ListSubscribersRequest(), CALLER)).subscribers
            assert [row.method for row in rows] == ["/venuemesh.v1.AccountService/StreamAccountEvents"]


# pages


def test_page_tokens_belong_to_their_list_and_key_and_expire() -> None:
    """Damaged, foreign and old tokens are told apart from good ones."""
    pager, other = Pager(b"one", lifetime_s=10.0), Pager(b"two")
    request = accounts.ListFillsRequest(account_id="main", page_size=5)
    token = pager.token(request, "17", now_ns=0)
    request.page_token = token
    request.page_size = 9
    assert pager.read(request, now_ns=10 * 10**9).cursor == "17"
    with pytest.raises(ResumeExpired):
        pager.read(request, now_ns=10 * 10**9 + 1)
    with pytest.raises(InvalidRequest, match="not one this service made"):
        other.read(request, now_ns=0)
    for damaged in (token[:-4], token[:8] + ("A" if token[8] != "A" else "B") + token[9:], "=" * 8, "A" * 600):
        request.page_token = damaged
        with pytest.raises(InvalidRequest, match="not one this service made"):
            pager.read(request, now_ns=0)
    same_fields = accounts.ListLedgerEntriesRequest(account_id="main", page_token=token)
    with pytest.raises(InvalidRequest, match="another method"):
        pager.read(same_fields, now_ns=0)


def test_order_side_names_are_those_of_the_contract() -> None:
    """Guards the constants the tests use."""
    assert order_pb2.Side.Name(order_pb2.SIDE_BUY) == "SIDE_BUY"
