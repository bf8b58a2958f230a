"""`/sim/hyperliquid/...`: what only the venue can do, over HTTP. For loopback and tests only.

All bodies are JSON. `POST post_only {"until_ms"}`, `POST open_interest {"coin", "cap", "step"}`, `POST halt {"coin"}`,
`POST session {"coin", "session", "price"}`, `POST retention {"orders", "changes"}`, `GET sessions`. Amounts are decimal
strings, null lifts a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from simulator.hyperliquid.app import HyperliquidApp
from simulator.hyperliquid.sessions import Session
from simulator.hyperliquid.venue import Venue

T = TypeVar("T")
PREFIX = "/sim/hyperliquid"


class PostOnlyBody(msgspec.Struct):
    """Only post-only orders are taken before `until_ms`; 0 ends the period."""

    until_ms: int


class OpenInterestBody(msgspec.Struct):
    """Cap and largest growth per order of a coin's open interest, in notional; null lifts either."""

    coin: str
    cap: Decimal | None = None
    step: Decimal | None = None


class HaltBody(msgspec.Struct):
    """The coin to end."""

    coin: str


class SessionBody(msgspec.Struct):
    """Where the oracle of a coin comes from; `price` is needed to open an external session."""

    coin: str
    session: Session
    price: Decimal | None = None


class RetentionBody(msgspec.Struct):
    """Closed orders and history rows kept per account."""

    orders: int
    changes: int | None = None


def routes(app: HyperliquidApp) -> list[web.RouteDef]:
    """Admin routes of the front."""
    admin = _Admin(app)
    return [
        web.post(f"{PREFIX}/post_only", admin.post_only),
        web.post(f"{PREFIX}/open_interest", admin.open_interest),
        web.post(f"{PREFIX}/halt", admin.halt),
        web.post(f"{PREFIX}/session", admin.session),
        web.post(f"{PREFIX}/retention", admin.retention),
        web.get(f"{PREFIX}/sessions", admin.sessions),
    ]


class _Admin:
    def __init__(self, app: HyperliquidApp) -> None:
        self._app = app

    async def _read(self, request: web.Request, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(await request.read(), type=kind)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    def _change(self, act: Callable[[Venue, int], object]) -> web.Response:
        try:
            self._app.change(act)
        except (KeyError, ValueError) as error:
            return web.Response(status=400, text=str(error))
        return _json({"ok": True})

    async def post_only(self, request: web.Request) -> web.Response:
        body = await self._read(request, PostOnlyBody)
        return self._change(lambda venue, _now: setattr(venue, "post_only_until_ms", body.until_ms))

    async def open_interest(self, request: web.Request) -> web.Response:
        body = await self._read(request, OpenInterestBody)

        def act(venue: Venue, now_ms: int) -> None:
            venue.set_open_interest_cap(body.coin, body.cap, now_ms)
            venue.set_open_interest_step(body.coin, body.step)

        return self._change(act)

    async def halt(self, request: web.Request) -> web.Response:
        body = await self._read(request, HaltBody)
        return self._change(lambda venue, now_ms: venue.halt(body.coin, now_ms))

    async def session(self, request: web.Request) -> web.Response:
        body = await self._read(request, SessionBody)

        def act(venue: Venue, now_ms: int) -> None:
            if body.session is Session.INTERNAL:
                venue.sessions.begin_internal(body.coin, now_ms)
            elif body.price is None:
                raise ValueError("an external session needs a price")
            else:
                venue.sessions.begin_external(body.coin, body.price, now_ms)

        return self._change(act)

    async def retention(self, request: web.Request) -> web.Response:
        body = await self._read(request, RetentionBody)
        return self._change(lambda venue, _now: venue.keep(orders=body.orders, changes=body.changes))

    async def sessions(self, _request: web.Request) -> web.Response:
        venue = self._app.venue
        return _json({coin: venue.sessions.session(coin) for coin in venue.universe.asset_ids if ":" in coin})


def _json(body: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
