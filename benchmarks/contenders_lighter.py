"""Other ways to send an order to Lighter: a bare client of its WebSocket, the official SDK, ccxt.

Orders are left resting: the venue takes 200 messages of a client a minute, and a cancel each would be half of them.
"""

from __future__ import annotations

import itertools
import json
import platform
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import websockets.asyncio.client as websockets

from benchmarks.contenders import NotTaken
from benchmarks.world import LIGHTER_KEY_INDEX, LighterAccount
from gateway_lighter.schnorr import PrivateKey
from gateway_lighter.signing import PureSigner
from gateway_lighter.transactions import CreateOrder, TimeInForce

MARKET = 1
CHAIN_ID = 304
SIZE = 100
"""0.001 bitcoin at the market's five decimals."""
PRICE_SCALE = 10
_DAY_MS = 86_400_000


class _Resting:
    async def cancel(self) -> None:
        """Left resting."""


class Raw(_Resting):
    """The socket and nothing else: frames are signed beforehand, so that what is timed is the venue's own answer."""

    def __init__(self, socket: Any, account: LighterAccount, price: Decimal) -> None:
        self._socket = socket
        self._signer = PureSigner(
            PrivateKey(account.key), chain_id=CHAIN_ID, account_index=account.index, api_key_index=LIGHTER_KEY_INDEX
        )
        self._numbers = itertools.count(1)
        self._price = int(price * PRICE_SCALE)
        self._frame = ""
        self.signing_s: list[float] = []

    async def prepare(self) -> None:
        """Sign, and keep how long that takes."""
        number, now_ms = next(self._numbers), time.time_ns() // 1_000_000
        began_s = time.perf_counter()
        signed = self._signer.sign(
            CreateOrder(
                market_index=MARKET,
                client_order_index=number,
                base_amount=SIZE,
                price=self._price,
                is_ask=False,
                time_in_force=TimeInForce.POST_ONLY,
                order_expiry=now_ms + _DAY_MS,
            ),
            nonce=number,
            expired_at_ms=now_ms + 60_000,
        )
        self.signing_s.append(time.perf_counter() - began_s)
        data = f'{{"id":"{number}","tx_type":{signed.tx_type},"tx_info":{signed.tx_info}}}'
        self._frame = f'{{"type":"jsonapi/sendtx","data":{data}}}'

    async def submit(self) -> None:
        """Send the signed frame; the answer says that the transaction is taken, not yet that the order rests."""
        await self._socket.send(self._frame)
        while True:
            answer = json.loads(await self._socket.recv())
            if "error" in answer:
                raise NotTaken(str(answer))
            if answer.get("type") == "jsonapi/sendtx":
                return


@asynccontextmanager
async def raw(ws_url: str, account: LighterAccount, price: Decimal) -> AsyncIterator[Raw]:
    """Connected and greeted."""
    async with websockets.connect(ws_url, compression=None) as socket:
        await socket.recv()
        yield Raw(socket, account, price)


class Sdk(_Resting):
    """`lighter-sdk`, whose compiled library signs."""

    def __init__(self, signer: Any, price: Decimal) -> None:
        self._signer = signer
        self._numbers = itertools.count(1)
        self._price = int(price * PRICE_SCALE)

    async def prepare(self) -> None:
        """Nothing."""

    async def submit(self) -> None:
        """Its one call; it answers when the transaction is taken."""
        _, _, error = await self._signer.create_order(
            market_index=MARKET,
            client_order_index=next(self._numbers),
            base_amount=SIZE,
            price=self._price,
            is_ask=False,
            order_type=self._signer.ORDER_TYPE_LIMIT,
            time_in_force=self._signer.ORDER_TIME_IN_FORCE_POST_ONLY,
        )
        if error is not None:
            raise NotTaken(str(error))


@asynccontextmanager
async def sdk(url: str, account: LighterAccount, price: Decimal) -> AsyncIterator[Sdk]:
    """With its key loaded."""
    import lighter

    signer = lighter.SignerClient(
        url=url, account_index=account.index, api_private_keys={LIGHTER_KEY_INDEX: account.key}, chain_id=CHAIN_ID
    )
    try:
        yield Sdk(signer, price)
    finally:
        await signer.close()


class Ccxt(_Resting):
    """`ccxt` over asyncio, which signs with the SDK's library."""

    def __init__(self, exchange: Any, price: Decimal) -> None:
        self._exchange = exchange
        self._price = float(price)

    async def prepare(self) -> None:
        """Nothing."""

    async def submit(self) -> None:
        """Its one call."""
        await self._exchange.create_order("BTC/USDC:USDC", "limit", "buy", 0.001, self._price, {"postOnly": True})


def signer_library() -> Path | None:
    """The shared object inside the installed `lighter-sdk`; None where there is none for this machine."""
    spec = find_spec("lighter")
    if spec is None or spec.origin is None or platform.system() != "Linux":
        return None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
    found = Path(spec.origin).parent / "signers" / f"lighter-signer-linux-{machine}.so"
    return found if found.exists() else None


@asynccontextmanager
async def ccxt(url: str, account: LighterAccount, price: Decimal) -> AsyncIterator[Ccxt]:
    """With its markets loaded."""
    import ccxt.async_support as library

    key = {"lighterPrivateKey": account.key, "signer": None, "deadline": None, "token": None}
    options = {
        "libraryPath": str(signer_library()),
        "accountIndex": account.index,
        "apiKeyIndex": LIGHTER_KEY_INDEX,
        "chainId": CHAIN_ID,
        "builderFee": False,
        "auths": {str(account.index): {str(LIGHTER_KEY_INDEX): key}},
    }
    exchange: Any = library.lighter({"options": options, "enableRateLimit": False})
    for name in ("root", "public", "private"):
        exchange.urls["api"][name] = url
    try:
        await exchange.load_markets()
        yield Ccxt(exchange, price)
    finally:
        await exchange.close()
