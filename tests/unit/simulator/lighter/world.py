"""A quiet Lighter venue beside a followed market, and a client that signs what it sends."""

from __future__ import annotations

import base64
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from simulator.engine.chance import SplitMix
from simulator.engine.engine import Engine
from simulator.engine.population import QUIET, PopulationSettings
from simulator.engine.upkeep import Upkeep
from simulator.engine.values import OrderRequest, Side
from simulator.hyperliquid.universe import Universe
from simulator.lighter import admission, auth, rest
from simulator.lighter.errors import Refused
from simulator.lighter.execution import EXECUTORS
from simulator.lighter.request import Request
from simulator.lighter.session import Session
from simulator.lighter.signing import schnorr
from simulator.lighter.transactions import Transaction, TxType, parse
from simulator.lighter.venue import HOUSE, LighterSettings, LighterVenue, Sent

START_MS = 1_790_000_000_000
DAY_MS = 86_400_000
ACCOUNT, OTHER, KEY = 4242, 4243, 4
OWNER, OTHER_OWNER = "0x" + "11" * 20, "0x" + "22" * 20
SECRETS = {ACCOUNT: 0x1234567890ABCDEF << 200, OTHER: 0xFEDCBA0987654321 << 190}
ETH, BTC, SPOT = 0, 1, 2048
FIXTURES = Path(os.environ.get("VENUEMESH_FIXTURES", "../shared/fixtures")) / "lighter"


def recorded(name: str) -> Any:
    """A recorded payload; skips the test where there are none."""
    path = (Path(__file__).resolve().parents[4] / FIXTURES / f"{name}.json").resolve()
    if not path.exists():
        pytest.skip(f"no recorded payloads at {path.parent}")
    return msgspec.json.decode(path.read_bytes())


class World:
    """A venue, two funded accounts and shorthands; time stands still unless a test moves it."""

    def __init__(
        self,
        *,
        delays: bool = False,
        population: PopulationSettings = QUIET,
        usdc: str = "10000",
        seed: int = 1,
        **settings: Any,
    ) -> None:
        self.now_ms = START_MS
        self.engine = Engine(Universe().instruments, first_order_id=START_MS * 100, first_trade_id=START_MS * 100)
        self.upkeep = Upkeep(self.engine, START_MS, "backstop")
        self.venue = LighterVenue(
            self.engine,
            self.upkeep,
            LighterSettings(delays=delays, **settings),
            population,
            SplitMix(seed),
            START_MS,
            check=admission.check,
            executors=EXECUTORS,
        )
        for index, owner in ((ACCOUNT, OWNER), (OTHER, OTHER_OWNER)):
            key = schnorr.public_key(SECRETS[index])
            self.venue.open_account(
                index, owner, {KEY: key}, START_MS, usdc=Decimal(usdc), spot={"USDC": Decimal(1000)}
            )
        self.venue.batch(START_MS)
        self._salt = 0

    def sign(self, tx: Transaction, account: int) -> bytes:
        """Signature with the account's key; the randomness is a counter, as nothing here is worth stealing."""
        self._salt += 1
        return schnorr.sign(tx.words(304), SECRETS[account], 10**40 + self._salt)

    def nonce(self, account: int = ACCOUNT) -> int:
        """What the venue expects next."""
        return self.venue.accounts.get(account).keys[KEY].next_nonce

    def info(self, kind: TxType, account: int = ACCOUNT, **fields: Any) -> str:
        """A signed `tx_info`."""
        owner = "FromAccountIndex" if kind in (TxType.TRANSFER, TxType.WITHDRAW) else "AccountIndex"
        body: dict[str, Any] = {
            owner: account,
            "ApiKeyIndex": KEY,
            "ExpiredAt": self.now_ms + 599_000,
            "Nonce": self.nonce(account),
            "L2TxAttributes": None,
            **fields,
        }
        body.setdefault("Sig", base64.b64encode(bytes(80)).decode())
        unsigned = parse(kind, msgspec.json.encode(body).decode())
        body["Sig"] = base64.b64encode(self.sign(unsigned, account)).decode()
        return msgspec.json.encode(body).decode()

    def send(self, kind: TxType, account: int = ACCOUNT, **fields: Any) -> Sent:
        """Sign, send, and execute what is due."""
        sent = self.venue.send(kind, self.info(kind, account, **fields), self.now_ms)
        self.venue.run_due(self.now_ms)
        return sent

    def refused(self, kind: TxType, account: int = ACCOUNT, **fields: Any) -> int:
        """Code of a refusal at once."""
        with pytest.raises(Refused) as caught:
            self.send(kind, account, **fields)
        return caught.value.code

    def order(self, account: int = ACCOUNT, **changes: Any) -> Sent:
        """Place one order."""
        return self.send(TxType.CREATE_ORDER, account, **self.order_fields(**changes))

    def order_fields(self, **changes: Any) -> dict[str, Any]:
        """A resting bid for 0.1 ETH at 3800, good for a day."""
        fields = {
            "MarketIndex": ETH,
            "ClientOrderIndex": 0,
            "BaseAmount": 1000,
            "Price": 380_000,
            "IsAsk": 0,
            "Type": 0,
            "TimeInForce": 1,
            "ReduceOnly": 0,
            "TriggerPrice": 0,
            "OrderExpiry": self.now_ms + DAY_MS,
        }
        return fields | changes

    def house(self, side: Side, size: str, price: str, market: int = ETH) -> None:
        """A house order that rests or trades."""
        key = self.venue.markets.by_id[market].key
        request = OrderRequest(instrument=key, side=side, quantity=Decimal(size), price=Decimal(price))
        self.engine.submit(HOUSE, [request], self.now_ms)

    def mark(self, price: str, market: int = ETH) -> None:
        """Move the reference of a market."""
        key = self.venue.markets.by_id[market].key
        self.upkeep.set_prices(key, Decimal(price), Decimal(price), self.now_ms)

    def error(self, sent: Sent) -> int:
        """Code of a refusal that came late, 0 for none."""
        text = sent.record.event["ae"]
        return int(msgspec.json.decode(text)["code"]) if text else 0

    def rows(self, account: int = ACCOUNT) -> list[dict[str, Any]]:
        """Every order of an account, oldest first."""
        name = self.venue.accounts.get(account).name
        return [self.venue.orders.row(order) for order in self.engine.all_orders(name)]

    def statuses(self, account: int = ACCOUNT) -> list[str]:
        """Status of every order."""
        return [row["status"] for row in self.rows(account)]

    def token(self, account: int = ACCOUNT, lives_s: int = 600) -> str:
        """An auth token."""
        text = f"{self.now_ms // 1000 + lives_s}:{account}:{KEY}"
        self._salt += 1
        signature = schnorr.sign(auth.token_words(text), SECRETS[account], 10**41 + self._salt)
        return f"{text}:{signature.hex()}"

    def read(self, name: str, *, token: str | None = None, **params: Any) -> dict[str, Any]:
        """A REST read."""
        asked = Request(
            params={key: str(value) for key, value in params.items()},
            token=self.token() if token is None else token,
            now_ms=self.now_ms,
        )
        return rest.read(self.venue, name, asked)

    def session(self) -> Socket:
        """A WebSocket conversation."""
        return Socket(self)


class Socket:
    """A client of a session: what it sends and what it has heard."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._session = Session(world.venue, "test")

    def say(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Send a message; the answers."""
        frames, _ = self._session.receive(msgspec.json.encode(body).decode(), self._world.now_ms)
        return [msgspec.json.decode(frame.text) for frame in frames]

    def subscribe(self, channel: str, *, token: str = "") -> dict[str, Any]:
        """Subscribe; the one answer."""
        body = {"type": "subscribe", "channel": channel} | ({"auth": token} if token else {})
        (answer,) = self.say(body)
        return answer

    def hear(self) -> list[dict[str, Any]]:
        """Frames of what happened since the last call; one listener at a time."""
        batch = self._world.venue.batch(self._world.now_ms)
        return [msgspec.json.decode(frame.text) for frame in self._session.publish(batch, self._world.now_ms)]
