"""Lighter over HTTP: typed reads, and transactions.

Moves bytes and translates failures; shapes are `codec`'s, costs are `limits`'. A transaction is sent at most once:
whatever leaves doubt about it is `OutcomeUnknown`. Source: venue reference sections 2 to 6 and 13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import msgspec

from gateway_lighter import account_messages as account
from gateway_lighter import messages as market
from gateway_lighter.codec import parse_answer, parse_refusal
from gateway_lighter.codec_verdicts import Queued, Verdict, read_queued, read_verdict, require_certain
from gateway_lighter.limits import MAX_BATCH, TierLimits
from gateway_lighter.refusals import (
    FIREWALL_WAIT_S,
    INVALID_AUTH,
    NO_CANDLES,
    TRANSACTION_NOT_FOUND,
    RefusalMeaning,
)
from gateway_lighter.rest_replies import read_refused, refused_unread, succeeded
from gateway_lighter.signing import SignedTransaction, TokenSource
from venuemesh.errors import (
    AuthenticationFailed,
    InvalidRequest,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    Reason,
    Sent,
)
from venuemesh.transport.gate import Charge, LimiterGate
from venuemesh.transport.limiter import Priority
from venuemesh.transport.rest import RestReply

READ_TIMEOUT_S: Final = 5.0
SEND_TIMEOUT_S: Final = 10.0
ROWS_PER_PAGE: Final = 100
MAX_PAGES: Final = 50

_FORM: Final = {"content-type": "application/x-www-form-urlencoded"}
_FIREWALL: Final = 405


class HttpClient(Protocol):
    """What is needed of `venuemesh.transport.rest.RestClient`; a fake in tests is the second one."""

    async def request(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        write: bool,
        timeout_s: float,
        endpoint: str,
        charge: Charge | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str = "",
        expires_ms: int | None = None,
    ) -> RestReply:
        """One request; see `RestClient.request` for its errors."""


class LighterRest:
    """Requests to one Lighter origin.

    Every read raises VenueUnavailable, RateLimited, DeadlineTooShort, InvalidRequest (the venue refused it),
    AuthenticationFailed (token or region) or ProtocolViolation (we could not read the answer).

    Args:
        client: owned by the caller; give its gate here too.
        tokens: auth tokens for private reads; without it those raise AuthenticationFailed.
        limits: costs of the account's tier.
        gate: closed for a minute when the firewall answers.
        read_timeout_s: bound of every read, limiter and repeats included.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        tokens: TokenSource | None = None,
        limits: TierLimits | None = None,
        gate: LimiterGate | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._limits = limits or TierLimits()
        self._gate = gate
        self._read_timeout_s = read_timeout_s

    # --- transactions --------------------------------------------------------------------------------------

    async def send_transactions(
        self,
        signed: Sequence[SignedTransaction],
        *,
        timeout_s: float = SEND_TIMEOUT_S,
        price_protection: bool = True,
        correlation_id: str = "",
    ) -> Queued | RefusalMeaning:
        """Send one transaction or a batch, once; a refusal by the venue is an answer, not an error.

        Args:
            signed: one, or up to 15 of one account and key with ascending nonces.
            price_protection: let the venue refuse accidental prices.
        Raises:
            OutcomeUnknown: it may have reached the venue and has no readable answer: time-out, reset, 5xx.
            VenueUnavailable: nothing was sent.
            RateLimited: by our limiter (`sent=no`) or by the venue (`sent=yes`), which then did not look at it.
            InvalidRequest, AuthenticationFailed: a hop before the venue refused it unread.
        """
        if not 1 <= len(signed) <= MAX_BATCH:
            raise InvalidRequest(f"a request takes 1 to {MAX_BATCH} transactions, not {len(signed)}")
        endpoint = "sendTx" if len(signed) == 1 else "sendTxBatch"
        charge = self._limits.transaction_charge([one.transaction for one in signed])
        reply = await self._client.request(
            "POST",
            f"/api/v1/{endpoint}",
            _send_form(signed, price_protection),
            write=True,
            timeout_s=timeout_s,
            endpoint=endpoint,
            charge=charge,
            headers=_FORM,
            correlation_id=correlation_id,
            expires_ms=None if charge.priority is Priority.CANCEL else signed[0].expired_at_ms,
        )
        self._check_firewall(reply, endpoint, charge)
        try:
            meaning = parse_refusal(reply.body)
            if meaning is not None:
                return require_certain(meaning, endpoint)
            if not succeeded(reply):
                raise OutcomeUnknown(f"{endpoint}: status {reply.status} and no refusal in it")
            return read_queued(parse_answer(endpoint, reply.body), signed)
        except ProtocolViolation as cause:
            if not succeeded(reply):
                raise refused_unread(reply, endpoint, write=True) from None
            raise OutcomeUnknown(
                f"the answer to {endpoint} cannot be read: {cause.message}", metadata=cause.metadata
            ) from cause

    async def fetch_verdict(self, tx_hash: str) -> Verdict | None:
        """What became of a transaction; None while the venue does not know it (yet)."""
        row = await self._read_unless(TRANSACTION_NOT_FOUND, "tx", by="hash", value=tx_hash)
        return None if row is None else read_verdict(row)

    async def fetch_next_nonce(self, account_index: int, api_key_index: int) -> int:
        """The nonce to use next with a key. Cancels may wait for it, so it goes before orders."""
        answer: account.NextNonce = await self._read(
            "nextNonce", priority=Priority.CANCEL, account_index=account_index, api_key_index=api_key_index
        )
        return answer.nonce

    # --- reading -------------------------------------------------------------------------------------------

    async def _read(
        self, endpoint: str, *, private: bool = False, priority: Priority = Priority.QUERY, **fields: Any
    ) -> Any:
        """One read with unset fields left out; the answer's type is that of the table in `codec`."""
        meaning, answer = await self._ask(endpoint, private=private, priority=priority, **fields)
        if meaning is not None:
            raise read_refused(meaning, endpoint)
        return answer

    async def _read_unless(self, code: int, endpoint: str, **fields: Any) -> Any:
        """Like `_read`, but None for a refusal with this code."""
        meaning, answer = await self._ask(endpoint, **fields)
        if meaning is not None and meaning.code != code:
            raise read_refused(meaning, endpoint)
        return answer

    async def _ask(
        self, endpoint: str, *, private: bool = False, priority: Priority = Priority.QUERY, **fields: Any
    ) -> tuple[RefusalMeaning | None, Any]:
        query = urlencode({name: _text(value) for name, value in fields.items() if value is not None})
        path = (f"/api/v1/{endpoint}" if endpoint else "/") + (f"?{query}" if query else "")
        charge = self._limits.read_charge(endpoint, priority)
        reply = await self._client.request(
            "GET",
            path,
            b"",
            write=False,
            timeout_s=self._read_timeout_s,
            endpoint=endpoint or "status",
            charge=charge,
            headers=self._authorization(endpoint) if private else None,
        )
        self._check_firewall(reply, endpoint, charge)
        try:
            meaning = parse_refusal(reply.body)
        except ProtocolViolation:
            if not succeeded(reply):
                raise refused_unread(reply, endpoint, write=False) from None
            raise
        if meaning is not None:
            if meaning.code == INVALID_AUTH and self._tokens is not None:
                self._tokens.forget()
            return meaning, None
        if not succeeded(reply):
            raise refused_unread(reply, endpoint, write=False)
        return None, parse_answer(endpoint, reply.body)

    def _authorization(self, endpoint: str) -> dict[str, str]:
        if self._tokens is None:
            raise AuthenticationFailed(f"{endpoint} needs an API key")
        return {"authorization": self._tokens.token().reveal()}

    def _check_firewall(self, reply: RestReply, endpoint: str, charge: Charge) -> None:
        """405 is the firewall in front of the venue, which keeps the address out for a minute."""
        if reply.status != _FIREWALL:
            return
        if self._gate is not None:
            self._gate.penalise(charge.costs, FIREWALL_WAIT_S)
        raise RateLimited(
            f"{endpoint}: the venue's firewall keeps this address out",
            reason=Reason.RATE_LIMIT_VENUE,
            sent=Sent.YES,
            retry_after_s=FIREWALL_WAIT_S,
            metadata={"http_status": str(reply.status)},
        )

    async def _pages(
        self,
        endpoint: str,
        rows_of: Callable[[Any], Sequence[Any] | None],
        cursor_of: Callable[[Any], str | None],
        enough: Callable[[Any], bool],
        *,
        limit: int | None = ROWS_PER_PAGE,
        **fields: Any,
    ) -> tuple[Any, ...]:
        """Rows of all pages, as the venue orders them, up to the first one that is `enough`.

        Args:
            limit: rows asked for; None where the venue has no such parameter.
        Raises:
            ProtocolViolation: `MAX_PAGES` do not reach the end, or a cursor repeats: the gap is not closed.
        """
        rows: list[Any] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._read(endpoint, private=True, cursor=cursor, limit=limit, **fields)
            for row in rows_of(page) or ():
                if enough(row):
                    return tuple(rows)
                rows.append(row)
            following = cursor_of(page) or None
            if following is None or not rows_of(page):
                return tuple(rows)
            if following == cursor:
                break
            cursor = following
        raise ProtocolViolation(f"{endpoint} does not end", sent=Sent.YES, metadata={"rows": str(len(rows))})

    # --- markets -------------------------------------------------------------------------------------------

    async def fetch_status(self) -> market.Status:
        """The venue's clock; fit for a probe."""
        answer: market.Status = await self._read("")
        return answer

    async def fetch_order_book_details(self, market_id: int | None = None) -> market.OrderBookDetails:
        """Rules and statistics of all markets, or of one."""
        answer: market.OrderBookDetails = await self._read("orderBookDetails", market_id=market_id)
        return answer

    async def fetch_asset_details(self) -> tuple[market.Asset, ...]:
        """All assets."""
        answer: market.AssetDetails = await self._read("assetDetails")
        return answer.asset_details or ()

    async def fetch_system_config(self) -> market.SystemConfig:
        """System accounts and integrator caps."""
        answer: market.SystemConfig = await self._read("systemConfig")
        return answer

    async def fetch_order_book_orders(self, market_id: int, limit: int = 250) -> market.OrderBookOrders:
        """Resting orders, best first, at most 250 a side."""
        answer: market.OrderBookOrders = await self._read("orderBookOrders", market_id=market_id, limit=limit)
        return answer

    async def fetch_recent_trades(self, market_id: int, limit: int = 100) -> tuple[market.Trade, ...]:
        """Latest prints, newest first, at most 100."""
        answer: market.Trades = await self._read("recentTrades", market_id=market_id, limit=limit)
        return answer.trades or ()

    async def fetch_candles(
        self, market_id: int, resolution: str, *, start_ms: int, end_ms: int
    ) -> tuple[market.Candle, ...]:
        """Candles that open in [start, end), oldest first; the newest 500 when there are more."""
        if start_ms >= end_ms:
            raise InvalidRequest(f"start_ms {start_ms}: must be before {end_ms}", field="start_ms")
        answer: market.Candles | None = await self._read_unless(
            NO_CANDLES,  # also the answer for a range in which no candle opens
            "candles",
            market_id=market_id,
            resolution=resolution,
            start_timestamp=start_ms,
            end_timestamp=end_ms,
            count_back=0,
        )
        return () if answer is None else answer.c or ()

    async def fetch_fundings(
        self, market_id: int, *, start_ms: int, end_ms: int, resolution: str = "1h"
    ) -> tuple[market.Funding, ...]:
        """Funding rates, oldest first."""
        answer: market.Fundings = await self._read(
            "fundings",
            market_id=market_id,
            resolution=resolution,
            start_timestamp=start_ms,
            end_timestamp=end_ms,
            count_back=0,
        )
        return answer.fundings or ()

    # --- account -------------------------------------------------------------------------------------------

    async def fetch_account(self, account_index: int) -> account.Account:
        """Balances, positions and margin of one account.

        Raises:
            ProtocolViolation: the answer does not hold it.
        """
        answer: account.Accounts = await self._read("account", by="index", value=account_index)
        for found in answer.accounts:
            if found.index == account_index:
                return found
        raise ProtocolViolation(f"account {account_index} is not in the answer", sent=Sent.YES)

    async def fetch_api_keys(self, account_index: int, api_key_index: int = 255) -> tuple[account.ApiKey, ...]:
        """Registered keys: compare the public key at start."""
        answer: account.ApiKeys = await self._read("apikeys", account_index=account_index, api_key_index=api_key_index)
        return answer.api_keys or ()

    async def fetch_account_limits(self, account_index: int) -> account.AccountLimits:
        """Tier and fees."""
        answer: account.AccountLimits = await self._read("accountLimits", private=True, account_index=account_index)
        return answer

    async def fetch_active_orders(self, account_index: int, market_id: int | None = None) -> tuple[account.Order, ...]:
        """Live orders of all markets, or of one."""
        answer: account.Orders = await self._read(
            "accountActiveOrders", private=True, account_index=account_index, market_id=market_id
        )
        return answer.orders or ()

    async def fetch_orders_by_client_index(
        self, account_index: int, client_order_indexes: Sequence[int]
    ) -> tuple[account.Order, ...]:
        """Live and ended orders by client order index, at most 20 at a time."""
        if not 1 <= len(client_order_indexes) <= 20:
            raise InvalidRequest(f"1 to 20 client order indexes, not {len(client_order_indexes)}")
        answer: account.Orders = await self._read(
            "accountOrders",
            private=True,
            account_index=account_index,
            client_order_indexes=",".join(str(index) for index in client_order_indexes),
        )
        return answer.orders or ()

    async def fetch_inactive_orders(self, account_index: int, limit: int = ROWS_PER_PAGE) -> tuple[account.Order, ...]:
        """Latest ended orders, one page."""
        answer: account.Orders = await self._read(
            "accountInactiveOrders", private=True, account_index=account_index, limit=limit
        )
        return answer.orders or ()

    async def fetch_inactive_orders_since(self, account_index: int, since_s: int) -> tuple[account.Order, ...]:
        """Orders that have ended and changed at this time or later, newest first, all pages."""
        rows: tuple[account.Order, ...] = await self._pages(
            "accountInactiveOrders",
            lambda page: page.orders,
            lambda page: page.next_cursor,
            lambda row: max(row.updated_at, row.timestamp) < since_s,
            account_index=account_index,
        )
        return rows

    async def fetch_trades_since(
        self, account_index: int, *, since_ms: int, market_id: int | None = None
    ) -> tuple[market.Trade, ...]:
        """All trades of the account at this time or later, oldest first, each once."""
        rows = await self._pages(
            "trades",
            lambda page: page.trades,
            lambda page: page.next_cursor,
            lambda trade: trade.timestamp < since_ms,
            sort_by="timestamp",
            sort_dir="desc",
            account_index=account_index,
            market_id=market_id,
        )
        unique = {trade.trade_id: trade for trade in rows}
        return tuple(sorted(unique.values(), key=lambda trade: (trade.timestamp, trade.trade_id)))

    async def fetch_position_fundings_since(
        self, account_index: int, *, since_s: int
    ) -> tuple[account.PositionFunding, ...]:
        """All funding payments at this time or later, oldest first, each once."""
        rows = await self._pages(
            "positionFunding",
            lambda page: page.position_fundings,
            lambda page: page.next_cursor,
            lambda row: row.timestamp < since_s,
            account_index=account_index,
        )
        unique = {(row.market_id, row.funding_id): row for row in rows}
        return tuple(sorted(unique.values(), key=lambda row: (row.timestamp, row.market_id)))

    async def fetch_deposits(
        self, account_index: int, l1_address: str, *, enough: Callable[[account.Deposit], bool]
    ) -> tuple[account.Deposit, ...]:
        """Deposits, newest first, up to the first that is `enough`."""
        rows: tuple[account.Deposit, ...] = await self._pages(
            "deposit/history",
            lambda page: page.deposits,
            lambda page: page.cursor,
            enough,
            limit=None,
            account_index=account_index,
            l1_address=l1_address,
        )
        return rows

    async def fetch_withdrawals(
        self, account_index: int, *, enough: Callable[[account.Withdrawal], bool]
    ) -> tuple[account.Withdrawal, ...]:
        """Withdrawals, newest first, up to the first that is `enough`."""
        rows: tuple[account.Withdrawal, ...] = await self._pages(
            "withdraw/history",
            lambda page: page.withdraws,
            lambda page: page.cursor,
            enough,
            limit=None,
            account_index=account_index,
        )
        return rows

    async def fetch_transfers(
        self, account_index: int, *, enough: Callable[[account.TransferRow], bool]
    ) -> tuple[account.TransferRow, ...]:
        """Transfers in, out and between sections, newest first, up to the first that is `enough`."""
        rows: tuple[account.TransferRow, ...] = await self._pages(
            "transfer/history",
            lambda page: page.transfers,
            lambda page: page.cursor,
            enough,
            limit=None,
            account_index=account_index,
        )
        return rows


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _send_form(signed: Sequence[SignedTransaction], price_protection: bool) -> bytes:
    if len(signed) == 1:
        form = {"tx_type": str(signed[0].tx_type), "tx_info": signed[0].tx_info}
        if not price_protection:
            form["price_protection"] = "false"
    else:
        form = {
            "tx_types": msgspec.json.encode([one.tx_type for one in signed]).decode(),
            "tx_infos": msgspec.json.encode([one.tx_info for one in signed]).decode(),
        }
    return urlencode(form).encode("ascii")
