"""Other ways to send an order to Hyperliquid: a bare client of its WebSocket, the official SDK, ccxt."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import websockets.asyncio.client as websockets

from benchmarks.contenders import QUANTITY, SYMBOL, NotTaken
from benchmarks.world import HyperliquidAccount
from hypercore.action_types import Tif
from hypercore.actions import build_cancel, build_order, build_order_action, limit
from hypercore.signing import Network, SecretKey, Signer, encode_signed

COIN = "BTC"
ASSET_ID = 0


class Raw:
    """The socket and nothing else: frames are signed beforehand, so that what is timed is the venue's own answer."""

    def __init__(self, socket: Any, account: HyperliquidAccount, price: Decimal) -> None:
        self._socket = socket
        self._signer = Signer(SecretKey(account.key), Network.TESTNET)
        self._ids = itertools.count(1)
        self._nonce = time.time_ns() // 1_000_000
        self._action = build_order_action(
            [build_order(asset_id=ASSET_ID, is_buy=True, price=price, size=QUANTITY, order_type=limit(Tif.ALO))]
        )
        self._order_id = 0
        self._frame = ""

    def frame(self, action: Any) -> tuple[int, str]:
        """Id and text of a post."""
        self._nonce += 1
        number = next(self._ids)
        payload = encode_signed(self._signer.sign(action, self._nonce)).decode()
        request = f'{{"type":"action","payload":{payload}}}'
        return number, f'{{"method":"post","id":{number},"request":{request}}}'

    async def prepare(self) -> None:
        """Sign."""
        _, self._frame = self.frame(self._action)

    async def _post(self, text: str) -> Any:
        await self._socket.send(text)
        while True:
            answer = json.loads(await self._socket.recv())
            if answer["channel"] == "post":
                return answer["data"]["response"]["payload"]["response"]["data"]["statuses"][0]

    async def submit(self) -> None:
        """Send the signed frame."""
        status = await self._post(self._frame)
        if "resting" not in status:
            raise NotTaken(str(status))
        self._order_id = status["resting"]["oid"]

    async def cancel(self) -> None:
        """Sign and send."""
        await self._post(self.frame(build_cancel([(ASSET_ID, self._order_id)]))[1])


@asynccontextmanager
async def raw(ws_url: str, account: HyperliquidAccount, price: Decimal) -> AsyncIterator[Raw]:
    """Connected."""
    async with websockets.connect(ws_url, compression=None) as socket:
        yield Raw(socket, account, price)


class Sdk:
    """`hyperliquid-python-sdk`, which blocks and speaks HTTP."""

    def __init__(self, exchange: Any, price: Decimal) -> None:
        self._exchange = exchange
        self._terms = (COIN, True, float(QUANTITY), float(price), {"limit": {"tif": "Alo"}})
        self._order_id = 0

    async def prepare(self) -> None:
        """Nothing: the SDK builds and signs in its one call."""

    async def submit(self) -> None:
        """Blocks, as its users do."""
        answer = self._exchange.order(*self._terms)
        (status,) = answer["response"]["data"]["statuses"]
        if "resting" not in status:
            raise NotTaken(str(status))
        self._order_id = status["resting"]["oid"]

    async def cancel(self) -> None:
        """Blocks."""
        self._exchange.cancel(COIN, self._order_id)


@asynccontextmanager
async def sdk(url: str, account: HyperliquidAccount, price: Decimal) -> AsyncIterator[Sdk]:
    """With its metadata loaded."""
    from eth_account import Account
    from hyperliquid.exchange import Exchange

    exchange = Exchange(Account.from_key("0x" + account.key), url)
    try:
        yield Sdk(exchange, price)
    finally:
        exchange.session.close()
        exchange.info.session.close()


class Ccxt:
    """`ccxt` over asyncio."""

    def __init__(self, exchange: Any, price: Decimal) -> None:
        self._exchange = exchange
        self._price = float(price)
        self._order_id = ""

    async def prepare(self) -> None:
        """Nothing."""

    async def submit(self) -> None:
        """Its one call."""
        made = await self._exchange.create_order(
            SYMBOL, "limit", "buy", float(QUANTITY), self._price, {"postOnly": True}
        )
        self._order_id = made["id"]

    async def cancel(self) -> None:
        """Its one call."""
        await self._exchange.cancel_order(self._order_id, SYMBOL)


@asynccontextmanager
async def ccxt(url: str, account: HyperliquidAccount, price: Decimal) -> AsyncIterator[Ccxt]:
    """With its markets loaded."""
    import ccxt.async_support as library

    keys = {"walletAddress": account.address, "privateKey": "0x" + account.key}
    exchange: Any = library.hyperliquid({**keys, "enableRateLimit": False})
    exchange.urls["api"] = {"public": url, "private": url}
    try:
        await exchange.load_markets()
        yield Ccxt(exchange, price)
    finally:
        await exchange.close()
