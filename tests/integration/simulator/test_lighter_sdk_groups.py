"""The official `lighter-sdk` against the Lighter front: stops, groups, batches, scheduled cancel.

Prices are the wire's integers: ETH counts cents, its sizes ten-thousandths.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from simulator.engine.values import Side
from simulator.server import Simulator
from tests.unit.simulator.lighter.serving import ACCOUNT, API_KEY, ETH, SECRET, lighter, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pydantic.PydanticDeprecatedSince20")
sdk = pytest.importorskip("lighter", reason="lighter-sdk is not installed", exc_type=ImportError)

OTO, OCO, OTOCO = 1, 2, 3
LIMIT, STOP, STOP_LIMIT, TAKE, TAKE_LIMIT = 0, 2, 3, 4, 5
IOC, GTT = 0, 1
DAY_MS = 86_400_000


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A still venue: only the test moves its prices."""
    async with lighter(alive=False) as running:
        yield running


@pytest.fixture
async def signer(simulator: Simulator) -> AsyncIterator[Any]:
    """A signing client of the funded account."""
    client = sdk.SignerClient(
        url=simulator.lighter.url, account_index=ACCOUNT, api_private_keys={API_KEY: SECRET}, chain_id=304
    )
    try:
        yield client
    finally:
        await client.close()


def mark(simulator: Simulator) -> int:
    """ETH's mark in whole dollars."""
    spec = simulator.lighter.venue.markets.by_id[ETH]
    return round(simulator.lighter.venue.market(spec).mark)


def move_mark(simulator: Simulator, price: int) -> None:
    """Let the mark be `price`, and what waits for it fire."""
    front = simulator.lighter
    front.venue.upkeep.set_prices(
        front.venue.markets.by_id[ETH].key, Decimal(price), Decimal(price), front.app.now_ms()
    )
    front.app.publish()


async def hold(simulator: Simulator, signer: Any, size: int = 1000) -> int:
    """Open a long of `size` units; the mark then."""
    price = mark(simulator)
    simulator.lighter.house_order("ETH", Side.SELL, str(price), str(Decimal(size) / 10_000))
    _, _, error = await signer.create_order(ETH, 900, size, price * 100, False, LIMIT, IOC, order_expiry=0)
    assert error is None
    return price


def statuses(simulator: Simulator) -> dict[int, str]:
    """Status words by client index."""
    return {row["client_order_index"]: row["status"] for row in simulator.lighter.orders(ACCOUNT)}


def wire_order(simulator: Simulator, index: int, kind: int, **changes: Any) -> Any:
    """An order of a group as the library takes it; by default it sells what a long of 0.1 holds."""
    values = {
        "MarketIndex": ETH,
        "ClientOrderIndex": index,
        "BaseAmount": 0,
        "Price": 0,
        "IsAsk": 1,
        "Type": kind,
        "TimeInForce": IOC if kind in (STOP, TAKE) else GTT,
        "ReduceOnly": 1,
        "TriggerPrice": 0,
        "OrderExpiry": simulator.now_ms() // 1000 * 1000 + DAY_MS,
    }
    return sdk.signer_client.CreateOrderTxReq(**(values | changes))


@pytest.mark.parametrize(
    ("helper", "away"),
    [
        ("create_sl_order", -100),
        ("create_sl_limit_order", -100),
        ("create_tp_order", 100),
        ("create_tp_limit_order", 100),
    ],
)
async def test_stop_or_take_profit_when_its_price_comes_fires_and_fills(
    signer: Any, simulator: Simulator, helper: str, away: int
) -> None:
    """Each of the SDK's helpers: pending until the mark is there, then done at no worse than its own price."""
    price = await hold(simulator, signer)
    trigger, worst = (price + away) * 100, (price + away - 50) * 100
    _, _, error = await getattr(signer, helper)(ETH, 5, 1000, trigger, worst, True, reduce_only=True)
    assert error is None
    assert statuses(simulator)[5] == "pending"
    simulator.lighter.house_order("ETH", Side.BUY, str(price + away - 10), "1")
    move_mark(simulator, price + away)
    assert statuses(simulator)[5] == "filled"


async def test_oto_when_its_parent_fills_arms_one_child(signer: Any, simulator: Simulator) -> None:
    """The child waits for the parent, then for its price."""
    price = mark(simulator)
    parent = wire_order(simulator, 1, LIMIT, BaseAmount=1000, Price=(price - 10) * 100, IsAsk=0, ReduceOnly=0)
    stop = wire_order(simulator, 2, STOP, Price=(price - 200) * 100, TriggerPrice=(price - 100) * 100)
    _, _, error = await signer.create_grouped_orders(OTO, [parent, stop])
    assert error is None
    assert [row["trigger_status"] for row in simulator.lighter.orders(ACCOUNT)] == ["na", "parent-order"]
    simulator.lighter.house_order("ETH", Side.SELL, str(price - 10), "0.1")
    assert [row["trigger_status"] for row in simulator.lighter.orders(ACCOUNT)] == ["na", "mark-price"]


@pytest.mark.parametrize("size", [1000, 0])
async def test_oco_when_one_fires_cancels_the_other(signer: Any, simulator: Simulator, size: int) -> None:
    """Of a size of their own, or of whatever the position is."""
    price = await hold(simulator, signer)
    profit = wire_order(
        simulator, 1, TAKE_LIMIT, BaseAmount=size, Price=(price + 90) * 100, TriggerPrice=(price + 100) * 100
    )
    stop = wire_order(simulator, 2, STOP, BaseAmount=size, Price=(price - 200) * 100, TriggerPrice=(price - 100) * 100)
    _, _, error = await signer.create_grouped_orders(OCO, [profit, stop])
    assert error is None
    simulator.lighter.house_order("ETH", Side.BUY, str(price - 120), "1")
    move_mark(simulator, price - 100)
    found = statuses(simulator)
    assert found[2] == "filled"
    assert found[1] in ("canceled-oco", "canceled-reduce-only")


async def test_otoco_when_its_parent_is_cancelled_goes_whole(signer: Any, simulator: Simulator) -> None:
    """Nothing protects what was never bought."""
    price = mark(simulator)
    parent = wire_order(simulator, 1, LIMIT, BaseAmount=1000, Price=(price - 10) * 100, IsAsk=0, ReduceOnly=0)
    profit = wire_order(simulator, 2, TAKE, Price=(price + 50) * 100, TriggerPrice=(price + 100) * 100)
    stop = wire_order(simulator, 3, STOP, Price=(price - 200) * 100, TriggerPrice=(price - 100) * 100)
    _, _, error = await signer.create_grouped_orders(OTOCO, [parent, profit, stop])
    assert error is None
    _, _, error = await signer.cancel_order(ETH, 1)
    assert error is None
    assert statuses(simulator) == {1: "canceled", 2: "canceled-child", 3: "canceled-child"}


async def test_batch_when_mixed_is_taken_in_its_order_and_when_one_is_bad_not_at_all(
    signer: Any, simulator: Simulator
) -> None:
    """Two orders and the cancel of the first; then one order too small among good ones."""
    price = mark(simulator) - 100

    async def send(orders: list[tuple[int, int]], cancel: int | None = None) -> Any:
        key, nonce = await signer.nonce_manager.async_next_nonce()
        signed = [
            signer.sign_create_order(
                ETH, index, size, price * 100, False, LIMIT, GTT, False, nonce=nonce + at, api_key_index=key
            )
            for at, (index, size) in enumerate(orders)
        ]
        if cancel is not None:
            signed.append(signer.sign_cancel_order(ETH, cancel, nonce=nonce + len(orders), api_key_index=key))
        assert [row[3] for row in signed] == [None] * len(signed)
        return await signer.send_tx_batch([row[0] for row in signed], [row[1] for row in signed])

    assert (await send([(1, 1000), (2, 1000)], cancel=1)).code == 200
    assert statuses(simulator) == {1: "canceled", 2: "open"}
    await asyncio.to_thread(
        signer.nonce_manager.hard_refresh_nonce, API_KEY
    )  # a blocking call, and this loop is the venue
    with pytest.raises(sdk.exceptions.BadRequestException, match="21706"):
        await send([(3, 1000), (4, 1)])
    assert statuses(simulator) == {1: "canceled", 2: "open"}


async def test_scheduled_cancel_when_not_moved_on_ends_every_order(signer: Any, simulator: Simulator) -> None:
    """Set, moved, taken back, set again: then the account tells when, and it happens, to stops too."""
    price = await hold(simulator, signer)
    await signer.create_sl_order(ETH, 2, 1000, (price - 100) * 100, (price - 200) * 100, True, reduce_only=True)
    await signer.create_order(ETH, 3, 1000, (price - 50) * 100, False, LIMIT, GTT)
    venue, now_ms = simulator.lighter.venue, simulator.now_ms()
    account = venue.accounts.get(ACCOUNT)
    for ahead_s in (600, 900):
        at_ms = now_ms + ahead_s * 1000
        _, _, error = await signer.cancel_all_orders(signer.CANCEL_ALL_TIF_SCHEDULED, at_ms)
        assert (error, account.cancel_all_ms) == (None, at_ms)
    _, _, error = await signer.cancel_all_orders(signer.CANCEL_ALL_TIF_ABORT, 0)
    assert (error, account.cancel_all_ms) == (None, 0)
    _, _, error = await signer.cancel_all_orders(signer.CANCEL_ALL_TIF_SCHEDULED, now_ms + 60_000)
    assert "21714" in str(error)
    await signer.cancel_all_orders(signer.CANCEL_ALL_TIF_SCHEDULED, now_ms + 600_000)
    assert statuses(simulator) == {900: "filled", 2: "pending", 3: "open"}
    venue.step(now_ms + 600_000)
    assert statuses(simulator) == {900: "filled", 2: "canceled", 3: "canceled"}


async def test_twap_when_signed_by_the_library_waits_as_one_order(signer: Any, simulator: Simulator) -> None:
    """Its slices name their parent and are orders of their own."""
    price = mark(simulator)
    simulator.lighter.house_order("ETH", Side.SELL, str(price), "1")
    expiry = simulator.now_ms() + 600_000
    _, sent, error = await signer.create_order(
        ETH, 7, 2000, (price + 100) * 100, False, signer.ORDER_TYPE_TWAP, GTT, order_expiry=expiry
    )
    assert error is None
    record = simulator.lighter.venue.log.by_hash(sent.tx_hash)
    assert record is not None
    assert record.event["ae"] == ""
    parent = json.loads(record.row()["event_info"])["to"]["i"]
    await until(lambda: len(simulator.lighter.orders(ACCOUNT)) > 1)
    first, *slices = simulator.lighter.orders(ACCOUNT)
    assert (first["order_index"], first["type"], first["trigger_status"]) == (parent, "twap", "twap")
    assert {(row["type"], row["parent_order_index"]) for row in slices} == {("twap-sub", parent)}
