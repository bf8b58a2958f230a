"""A quiet venue with signed requests, made by the official client's signing functions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eth_account import Account
from hyperliquid.utils import signing as official

from simulator.engine.chance import SplitMix
from simulator.engine.engine import SPOT_WALLET
from simulator.engine.population import QUIET
from simulator.engine.values import OrderRequest, Side
from simulator.hyperliquid import exchange, info
from simulator.hyperliquid.venue import Venue, VenueSettings

START_MS = 1_790_000_000_000
KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
AGENT_KEY = "0x822e9959e022b78423eb653a62ea0020cd283e71a2a8133a6ff2aeffaf373cff"
WALLET, AGENT = Account.from_key(KEY), Account.from_key(AGENT_KEY)
USER, AGENT_ADDRESS = WALLET.address.lower(), AGENT.address.lower()
HOUSE = "0x00000000000000000000000000000000000000a3"
ETH = 1


class Front:
    """A venue and a client that signs what it sends."""

    def __init__(self, *, cash: str = "10000", **venue_settings: Any) -> None:
        self.venue = Venue(VenueSettings(**venue_settings), QUIET, SplitMix(1), START_MS)
        self.now_ms = START_MS
        self._nonce = START_MS
        self.venue.engine.open_account(HOUSE, house=True)
        self.venue.fund(USER, "", "USDC", Decimal(cash), START_MS)
        self.venue.fund(USER, "xyz", "USDC", Decimal(cash), START_MS)
        self.venue.fund(USER, SPOT_WALLET, "USDC", Decimal(cash), START_MS)

    def nonce(self) -> int:
        """A fresh nonce."""
        self._nonce += 1
        return self._nonce

    def signed(
        self,
        action: dict[str, Any],
        *,
        key: Any = WALLET,
        mainnet: bool = False,
        vault: str | None = None,
        expires: int | None = None,
        nonce: int | None = None,
    ) -> dict[str, Any]:
        """An envelope with an L1 signature."""
        nonce = self.nonce() if nonce is None else nonce
        signature = official.sign_l1_action(key, action, vault, nonce, expires, mainnet)
        return {
            "action": action,
            "nonce": nonce,
            "signature": signature,
            "vaultAddress": vault,
            "expiresAfter": expires,
        }

    def post(self, payload: Any) -> Any:
        """Send an envelope; the body of the answer."""
        answer = exchange.handle(self.venue, payload, self.now_ms)
        assert answer.status == 200, answer.body
        return answer.body

    def act(self, action: dict[str, Any], **options: Any) -> Any:
        """Sign and send an action."""
        return self.post(self.signed(action, **options))

    def order(self, **changes: Any) -> Any:
        """Place one order; its status entry."""
        options = {k: changes.pop(k) for k in ("key", "mainnet", "vault", "expires", "nonce") if k in changes}
        body = self.act(orders(wire(**changes)), **options)
        return body["response"]["data"]["statuses"][0] if body["status"] == "ok" else body

    def ask(self, kind: str, **fields: Any) -> Any:
        """An info request about the user, unless fields say otherwise."""
        answer = info.handle(self.venue, {"type": kind, "user": USER, **fields}, self.now_ms)
        assert answer.status == 200, answer.body
        return answer.body

    def house(self, side: Side, size: str, price: str, coin: str = "ETH") -> None:
        """A house order that rests."""
        request = OrderRequest(instrument=coin, side=side, quantity=Decimal(size), price=Decimal(price))
        self.venue.engine.submit(HOUSE, [request], self.now_ms)


def wire(
    *,
    asset: int = ETH,
    buy: bool = True,
    price: str = "3900",
    size: str = "0.1",
    reduce: bool = False,
    tif: str = "Gtc",
    trigger: dict[str, Any] | None = None,
    cloid: str | None = None,
) -> dict[str, Any]:
    """An order in wire form."""
    kind = {"limit": {"tif": tif}} if trigger is None else {"trigger": trigger}
    found: dict[str, Any] = {"a": asset, "b": buy, "p": price, "s": size, "r": reduce, "t": kind}
    return found if cloid is None else found | {"c": cloid}


def orders(*items: dict[str, Any], grouping: Any = "na") -> dict[str, Any]:
    """An order action."""
    return {"type": "order", "orders": list(items), "grouping": grouping}
