"""`/sim/...`: faults, prices, clock, house orders and ground truth over HTTP. For loopback and tests only.

All bodies are JSON. Routes: `GET|POST|DELETE /sim/faults`, `POST /sim/price`, `POST /sim/house/order`,
`POST /sim/quotes/withdraw`, `POST /sim/fund`, `POST /sim/clock/advance`, `POST /sim/tick`,
`POST /sim/sockets/cut`, `POST /sim/silence`, `GET /sim/orders?user=0x..`, `GET /sim/fills?user=0x..`,
`GET /sim/state`. With `?venue=lighter` faults, house orders, quotes, sockets, silence, orders and fills are those of
the Lighter front; users are then account indices, coins symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from simulator.engine.values import Side
from simulator.faults import Fault, FaultPlan
from simulator.hyperliquid.account_info import user_fills
from simulator.world import World

T = TypeVar("T")


class PriceBody(msgspec.Struct):
    """Hold the reference of `coin` at `oracle`; `mark` defaults to it."""

    coin: str
    oracle: str
    mark: str | None = None


class HouseOrderBody(msgspec.Struct):
    """A resting or matching order of a house account; `side` is "buy" or "sell"."""

    coin: str
    side: Side
    price: str
    size: str


class CoinBody(msgspec.Struct):
    """One instrument."""

    coin: str


class FundBody(msgspec.Struct):
    """Deposit `amount` of `token` into `wallet`: "" (main perps), "xyz" or "spot"."""

    user: str
    amount: str
    wallet: str = ""
    token: str = "USDC"  # noqa: S105 - a token name, no password


class AdvanceBody(msgspec.Struct):
    """Step a manual clock."""

    ms: int


class SilenceBody(msgspec.Struct):
    """Send nothing for so long."""

    seconds: float


def routes(world: World) -> list[web.RouteDef]:
    """Admin routes that move `world`."""
    admin = _Admin(world)
    return [
        web.get("/sim/faults", admin.list_faults),
        web.post("/sim/faults", admin.add_fault),
        web.delete("/sim/faults", admin.clear_faults),
        web.post("/sim/price", admin.price),
        web.post("/sim/house/order", admin.house_order),
        web.post("/sim/quotes/withdraw", admin.withdraw_quotes),
        web.post("/sim/fund", admin.fund),
        web.post("/sim/clock/advance", admin.advance),
        web.post("/sim/tick", admin.tick),
        web.post("/sim/sockets/cut", admin.cut),
        web.post("/sim/silence", admin.silence),
        web.get("/sim/orders", admin.orders),
        web.get("/sim/fills", admin.fills),
        web.get("/sim/state", admin.state),
    ]


def _ok(body: Any = None) -> web.Response:
    text = msgspec.json.encode({"ok": True} if body is None else body)
    return web.Response(body=text, content_type="application/json")


def _refuse(message: str) -> web.Response:
    return web.Response(status=400, text=message)


def _lighter(request: web.Request) -> bool:
    return request.query.get("venue") == "lighter"


class _Admin:
    def __init__(self, world: World) -> None:
        self._world = world

    async def _read(self, request: web.Request, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(await request.read(), type=kind)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    def _plan(self, request: web.Request) -> FaultPlan:
        return self._world.lighter.faults if _lighter(request) else self._world.faults

    async def list_faults(self, request: web.Request) -> web.Response:
        return _ok(list(self._plan(request).rules))

    async def add_fault(self, request: web.Request) -> web.Response:
        self._plan(request).add(await self._read(request, Fault))
        return _ok()

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._plan(request).clear()
        return _ok()

    async def price(self, request: web.Request) -> web.Response:
        body = await self._read(request, PriceBody)
        return self._try(lambda: self._world.set_price(body.coin, body.oracle, mark=body.mark))

    async def house_order(self, request: web.Request) -> web.Response:
        body = await self._read(request, HouseOrderBody)
        venue = self._world.lighter if _lighter(request) else self._world
        return self._try(lambda: venue.house_order(body.coin, body.side, body.price, body.size))

    async def withdraw_quotes(self, request: web.Request) -> web.Response:
        body = await self._read(request, CoinBody)
        venue = self._world.lighter if _lighter(request) else self._world
        return self._try(lambda: venue.withdraw_quotes(body.coin))

    async def fund(self, request: web.Request) -> web.Response:
        body = await self._read(request, FundBody)
        return self._try(lambda: self._world.fund(body.user, body.amount, wallet=body.wallet, token=body.token))

    async def advance(self, request: web.Request) -> web.Response:
        body = await self._read(request, AdvanceBody)
        return self._try(lambda: self._world.advance(body.ms))

    async def tick(self, _request: web.Request) -> web.Response:
        self._world.tick()
        return _ok()

    async def cut(self, request: web.Request) -> web.Response:
        app = self._world.lighter.app if _lighter(request) else self._world.app
        return _ok({"cut": app.cut_sockets()})

    async def silence(self, request: web.Request) -> web.Response:
        app = self._world.lighter.app if _lighter(request) else self._world.app
        app.fall_silent((await self._read(request, SilenceBody)).seconds)
        return _ok()

    async def orders(self, request: web.Request) -> web.Response:
        """Every order of a user the engine still knows, with its state: the truth for tests."""
        user = request.query.get("user", "").lower()
        if _lighter(request):
            return self._rows(lambda: self._world.lighter.orders(int(user)))
        return _ok(self._world.orders(user))

    async def fills(self, request: web.Request) -> web.Response:
        user = request.query.get("user", "").lower()
        if _lighter(request):
            return self._rows(lambda: self._world.lighter.trades(int(user)))
        return _ok(user_fills(self._world.venue, user))

    async def state(self, _request: web.Request) -> web.Response:
        world = self._world
        return _ok({"now_ms": world.now_ms(), "sockets": world.sockets, "faults": len(world.faults.rules)})

    def _rows(self, read: Callable[[], object]) -> web.Response:
        try:
            return _ok(read())
        except ValueError as error:
            return _refuse(str(error))

    def _try(self, act: Callable[[], object]) -> web.Response:
        try:
            result = act()
        except (ValueError, KeyError) as error:
            return _refuse(str(error))
        return _ok({"ok": True, "result": result})
