"""A Lighter front with one funded account, and what its clients need to know of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from eth_account import Account

from simulator.lighter.signing import schnorr
from simulator.lighter.transactions import parse
from simulator.server import Simulator
from simulator.testing import lively, quiet, running_simulator

ACCOUNT, SECOND, API_KEY = 4242, 4243, 4
SECRET = "1f3d5c7a9b0e2d4f6183a5c7e90b2d4f6183a5c7e90b2d4f6183a5c7e90b2d4f6183a5c7e90b2d0a"
OTHER_SECRET = "2e3d5c7a9b0e2d4f6183a5c7e90b2d4f6183a5c7e90b2d4f6183a5c7e90b2d4f6183a5c7e90b2d0b"
OWNER_KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
OWNER = Account.from_key(OWNER_KEY).address
OTHER_OWNER = Account.from_key("0x" + "42" * 32).address
ETH, BTC, CRV, SPOT = 0, 1, 36, 2048
WAIT_S = 30


def public_hex(secret: str) -> str:
    """Public key of a private one, as the venue shows it."""
    return schnorr.public_key(int.from_bytes(bytes.fromhex(secret), "little")).hex()


def accounts(**changes: Any) -> dict[int, dict[str, Any]]:
    """The configured accounts; `changes` go to the first."""
    first = {"l1_address": OWNER, "keys": {API_KEY: public_hex(SECRET), 5: public_hex(OTHER_SECRET)}, "usdc": "100000"}
    second = {"l1_address": OTHER_OWNER, "keys": {API_KEY: public_hex(OTHER_SECRET)}, "usdc": "100000"}
    return {ACCOUNT: first | changes, SECOND: second}


@asynccontextmanager
async def lighter(
    *, alive: bool = True, account: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Simulator]:
    """A simulator whose Lighter front knows the accounts."""
    make: Callable[..., Any] = lively if alive else quiet
    chosen = make(lighter_accounts=accounts(**(account or {})), **settings)
    async with asyncio.timeout(WAIT_S), running_simulator(chosen) as simulator:
        yield simulator


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own timeout bounds it."""
    while not condition():
        await asyncio.sleep(0.01)


class Caller:
    """A hand-made client over real sockets: signs by the simulator's own mathematics, shows every byte."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session
        self._nonce = 0
        self._salt = 10**40

    def order(self, client_index: int = 1, **changes: Any) -> dict[str, str]:
        """Form of a signed post-only bid."""
        self._nonce += 1
        fields = {
            "AccountIndex": ACCOUNT,
            "ApiKeyIndex": API_KEY,
            "MarketIndex": ETH,
            "ClientOrderIndex": client_index,
            "BaseAmount": 1000,
            "Price": 380_000,
            "IsAsk": 0,
            "Type": 0,
            "TimeInForce": 2,
            "ReduceOnly": 0,
            "TriggerPrice": 0,
            "OrderExpiry": self.simulator.now_ms() + 86_400_000,
            "ExpiredAt": self.simulator.now_ms() + 599_000,
            "Nonce": self._nonce,
            "L2TxAttributes": None,
            **changes,
        }
        self._nonce = fields["Nonce"]
        unsigned = parse(14, msgspec.json.encode(fields | {"Sig": base64.b64encode(bytes(80)).decode()}).decode())
        self._salt += 1
        secret = int.from_bytes(bytes.fromhex(SECRET), "little")
        signature = schnorr.sign(unsigned.words(304), secret, self._salt)
        fields["Sig"] = base64.b64encode(signature).decode()
        return {"tx_type": "14", "tx_info": msgspec.json.encode(fields).decode()}

    async def post(self, form: Any, name: str = "sendTx") -> tuple[int, dict[str, str], Any]:
        """Status, headers and body of a POST."""
        async with self.session.post(f"{self.simulator.lighter.url}/api/v1/{name}", data=form) as answer:
            text = await answer.text()
            parsed = msgspec.json.decode(text) if answer.content_type == "application/json" else text
            return answer.status, dict(answer.headers), parsed

    async def get(self, path: str, **params: Any) -> tuple[int, Any]:
        """Status and body of a GET."""
        async with self.session.get(self.simulator.lighter.url + path, params=params) as answer:
            return answer.status, msgspec.json.decode(await answer.text())

    @asynccontextmanager
    async def stream(self, *channels: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A socket that has greeted and subscribed; snapshots are still to be read."""
        async with self.session.ws_connect(self.simulator.lighter.ws_url, max_msg_size=1 << 24) as socket:
            assert (await socket.receive_json())["type"] == "connected"
            for channel in channels:
                await socket.send_json({"type": "subscribe", "channel": channel})
            yield socket
