"""HyperCore over HTTP: typed reads of /info, signed actions to /exchange.

Moves bytes and translates failures; shapes are `codec`'s, costs are `limits`'. An action is sent at most once:
whatever leaves doubt about it is `OutcomeUnknown`. Source: venue reference sections 1 to 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec

from hypercore import account_messages as account
from hypercore import messages as market
from hypercore.assets import MAIN_DEX, Universe, build_universe
from hypercore.codec import RAW_KEPT, parse_info
from hypercore.exchange_codec import ExchangeAnswer, parse_exchange_answer
from hypercore.limits import IP_WEIGHT, action_priority, action_weight, info_weight, rows_weight
from hypercore.signing import SignedAction, encode_signed
from venuemesh.errors import (
    AuthenticationFailed,
    InvalidRequest,
    MeshError,
    OutcomeUnknown,
    ProtocolViolation,
    Sent,
)
from venuemesh.transport.gate import Charge, LimiterGate
from venuemesh.transport.limiter import Priority
from venuemesh.transport.rest import RestReply

READ_TIMEOUT_S: Final = 5.0
ACTION_TIMEOUT_S: Final = 10.0
FILLS_PER_PAGE: Final = 2_000
MAX_FILL_PAGES: Final = 50

# Answers given before the request's body is acted upon; any other 4xx may come from a hop behind it.
_REFUSED_UNREAD: Final = frozenset({400, 404, 405, 411, 413, 414, 415, 422})
_FORBIDDEN: Final = frozenset({401, 403})

_encode = msgspec.json.Encoder().encode


class PostClient(Protocol):
    """What is needed of `venuemesh.transport.rest.RestClient`; a fake in tests is the second one."""

    async def post(
        self,
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


class HyperCoreRest:
    """Requests to one HyperCore origin.

    Every read raises VenueUnavailable, RateLimited, DeadlineTooShort, InvalidRequest (the venue could not read
    the request), AuthenticationFailed (it will not serve us) or ProtocolViolation (we could not read the
    answer).

    Args:
        client: owned by the caller; give its gate here too.
        gate: charged with the weight that is only known from an answer's rows.
        read_timeout_s: bound of every read, limiter and repeats included.
    """

    def __init__(
        self, client: PostClient, *, gate: LimiterGate | None = None, read_timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        self._client = client
        self._gate = gate
        self._read_timeout_s = read_timeout_s

    async def send_action(
        self,
        signed: SignedAction,
        *,
        timeout_s: float = ACTION_TIMEOUT_S,
        correlation_id: str = "",
    ) -> ExchangeAnswer:
        """Send one signed action, once; a refusal by the venue is an answer, not an error.

        Raises:
            OutcomeUnknown: it may have reached the venue and has no readable answer: time-out, reset, 5xx.
            VenueUnavailable: nothing was sent.
            RateLimited: by our limiter (`sent=no`) or by HTTP 429, which the venue gives unread (`sent=yes`).
            InvalidRequest: the venue could not read the request (422 and the like); its text is kept.
            AuthenticationFailed: 401 or 403: the venue does not serve this address.
        """
        kind = signed.kind()
        weight, priority = action_weight(signed.length()), action_priority(signed.action)
        reply = await self._client.post(
            "/exchange",
            encode_signed(signed),
            write=True,
            timeout_s=timeout_s,
            endpoint=f"exchange.{kind}",
            charge=Charge(costs={IP_WEIGHT: weight}, priority=priority),
            correlation_id=correlation_id,
            expires_ms=None if priority is Priority.CANCEL else signed.expires_after,
        )
        _require_success(reply, f"exchange.{kind}", write=True)
        try:
            return parse_exchange_answer(reply.body)
        except ProtocolViolation as cause:
            raise OutcomeUnknown(
                f"the answer to {kind} cannot be read: {cause.message}", metadata=cause.metadata
            ) from cause

    async def fetch_info(self, request: Mapping[str, Any], *, correlation_id: str = "") -> Any:
        """Any /info request whose type `codec.parse_info` knows; the `fetch_` methods below are its types."""
        info_type = str(request["type"])
        charge = Charge(costs={IP_WEIGHT: info_weight(info_type)}, priority=Priority.QUERY)
        reply = await self._client.post(
            "/info",
            _encode(request),
            write=False,
            timeout_s=self._read_timeout_s,
            endpoint=f"info.{info_type}",
            charge=charge,
            correlation_id=correlation_id,
        )
        _require_success(reply, f"info.{info_type}", write=False)
        answer = parse_info(info_type, reply.body)
        extra = rows_weight(info_type, answer)
        if self._gate is not None and extra:
            self._gate.charge(IP_WEIGHT, extra)
        return answer

    async def _read(self, info_type: str, **fields: Any) -> Any:
        """`fetch_info` with unset fields left out; the answer's type is that of the table in `codec`."""
        request = {"type": info_type, **{key: value for key, value in fields.items() if value is not None}}
        return await self.fetch_info(request)

    # --- instruments ---------------------------------------------------------------------------------------

    async def fetch_universe(self, dexes: Sequence[str] = (MAIN_DEX,), *, include_spot: bool = True) -> Universe:
        """Assets of the named dexes and of spot, numbered by the venue's own lists."""
        spot_meta = await self.fetch_spot_meta()
        perp_dexs = await self.fetch_perp_dexs() if any(dexes) else (None,)
        metas = {dex: await self.fetch_meta(dex) for dex in dexes}
        return build_universe(spot_meta=spot_meta, metas=metas, perp_dexs=perp_dexs, include_spot=include_spot)

    async def fetch_meta(self, dex: str = MAIN_DEX) -> market.Meta:
        """Perp universe of one dex."""
        answer: market.Meta = await self._read("meta", dex=dex)
        return answer

    async def fetch_spot_meta(self) -> market.SpotMeta:
        """Spot pairs and tokens."""
        answer: market.SpotMeta = await self._read("spotMeta")
        return answer

    async def fetch_perp_dexs(self) -> tuple[market.PerpDex | None, ...]:
        """Builder dexes by index; element 0 is None."""
        answer: tuple[market.PerpDex | None, ...] = await self._read("perpDexs")
        return answer

    async def fetch_perp_dex_limits(self, dex: str) -> market.PerpDexLimits | None:
        """Open-interest caps of a builder dex."""
        answer: market.PerpDexLimits | None = await self._read("perpDexLimits", dex=dex)
        return answer

    async def fetch_perps_at_open_interest_cap(self, dex: str = MAIN_DEX) -> tuple[str, ...]:
        """Coins that take no orders that would add open interest."""
        answer: tuple[str, ...] = await self._read("perpsAtOpenInterestCap", dex=dex)
        return answer

    async def fetch_exchange_status(self) -> market.ExchangeStatus:
        """The venue's clock and announcements; light, so fit for a probe."""
        answer: market.ExchangeStatus = await self._read("exchangeStatus")
        return answer

    # --- market data ---------------------------------------------------------------------------------------

    async def fetch_asset_ctxs(self, dex: str = MAIN_DEX) -> market.MetaAndAssetCtxs:
        """Universe and live figures of one dex, aligned by index."""
        answer: market.MetaAndAssetCtxs = await self._read("metaAndAssetCtxs", dex=dex)
        return answer

    async def fetch_spot_asset_ctxs(self) -> market.SpotMetaAndAssetCtxs:
        """Live figures of spot; match by coin."""
        answer: market.SpotMetaAndAssetCtxs = await self._read("spotMetaAndAssetCtxs")
        return answer

    async def fetch_all_mids(self, dex: str = MAIN_DEX) -> dict[str, Decimal]:
        """Mid prices by coin; last trade where there is no book."""
        answer: dict[str, Decimal] = await self._read("allMids", dex=dex)
        return answer

    async def fetch_l2_book(
        self, coin: str, *, n_sig_figs: int | None = None, mantissa: int | None = None
    ) -> market.L2Book | None:
        """Book snapshot, 20 levels a side; None for an unknown coin."""
        answer: market.L2Book | None = await self._read("l2Book", coin=coin, nSigFigs=n_sig_figs, mantissa=mantissa)
        return answer

    async def fetch_candles(self, coin: str, interval: str, *, start_ms: int, end_ms: int) -> tuple[market.Candle, ...]:
        """Candles, oldest first; only the latest 5000 of an interval exist."""
        request = {"coin": coin, "interval": interval, "startTime": start_ms, "endTime": end_ms}
        answer: tuple[market.Candle, ...] = await self._read("candleSnapshot", req=request)
        return answer

    async def fetch_recent_trades(self, coin: str) -> tuple[market.Trade, ...]:
        """Latest public trades, newest first."""
        answer: tuple[market.Trade, ...] = await self._read("recentTrades", coin=coin)
        return answer

    async def fetch_funding_history(
        self, coin: str, *, start_ms: int, end_ms: int | None = None
    ) -> tuple[market.FundingRate, ...]:
        """Hourly funding rates, oldest first, at most 500."""
        answer: tuple[market.FundingRate, ...] = await self._read(
            "fundingHistory", coin=coin, startTime=start_ms, endTime=end_ms
        )
        return answer

    # --- account: `user` is the account, never an agent -----------------------------------------------------

    async def fetch_clearinghouse_state(self, user: str, dex: str = MAIN_DEX) -> account.ClearinghouseState:
        """Margin account and positions on one dex."""
        answer: account.ClearinghouseState = await self._read("clearinghouseState", user=user, dex=dex)
        return answer

    async def fetch_spot_state(self, user: str) -> account.SpotState:
        """Spot balances; all balances on a unified account."""
        answer: account.SpotState = await self._read("spotClearinghouseState", user=user)
        return answer

    async def fetch_open_orders(self, user: str, dex: str = MAIN_DEX) -> tuple[account.FrontendOrder, ...]:
        """Open orders of one dex with trigger and type fields."""
        answer: tuple[account.FrontendOrder, ...] = await self._read("frontendOpenOrders", user=user, dex=dex)
        return answer

    async def fetch_order_status(self, user: str, order: int | str) -> account.OrderWithStatus | None:
        """One order by oid or cloid; None when the venue does not know it (any more)."""
        answer: account.OrderStatusAnswer = await self._read("orderStatus", user=user, oid=order)
        if answer.order is None and answer.status != "unknownOid":
            raise ProtocolViolation(
                f"orderStatus answered {answer.status!r} without an order",
                sent=Sent.YES,
                metadata={"payload": answer.status[:RAW_KEPT]},
            )
        return answer.order

    async def fetch_historical_orders(self, user: str) -> tuple[account.OrderWithStatus, ...]:
        """Latest 2000 order rows, newest first; one oid may come several times."""
        answer: tuple[account.OrderWithStatus, ...] = await self._read("historicalOrders", user=user)
        return answer

    async def fetch_fills(self, user: str) -> tuple[account.Fill, ...]:
        """Latest 2000 fills of all dexes, newest first."""
        answer: tuple[account.Fill, ...] = await self._read("userFills", user=user)
        return answer

    async def fetch_fills_by_time(
        self, user: str, *, start_ms: int, end_ms: int | None = None
    ) -> tuple[account.Fill, ...]:
        """One page of at most 2000 fills from `start_ms` on, oldest first."""
        answer: tuple[account.Fill, ...] = await self._read(
            "userFillsByTime", user=user, startTime=start_ms, endTime=end_ms
        )
        return answer

    async def fetch_fills_since(
        self, user: str, *, start_ms: int, end_ms: int | None = None
    ) -> tuple[account.Fill, ...]:
        """All fills from `start_ms` on, oldest first, each once, over as many pages as it takes.

        Raises:
            ProtocolViolation: one millisecond holds a whole page, or `MAX_FILL_PAGES` pages do not reach the
                end: the gap cannot be closed this way and must not be thought closed.
        """
        seen: dict[object, account.Fill] = {}
        start = start_ms
        for _ in range(MAX_FILL_PAGES):
            page = await self.fetch_fills_by_time(user, start_ms=start, end_ms=end_ms)
            for fill in page:
                seen.setdefault((fill.tid, fill.oid) if fill.tid else fill, fill)
            if len(page) < FILLS_PER_PAGE:
                return tuple(seen.values())
            if page[-1].time <= start:
                break
            start = page[-1].time
        raise ProtocolViolation(
            f"fills since {start_ms} do not end; stopped at {start}",
            sent=Sent.YES,
            metadata={"start_ms": str(start_ms), "stopped_ms": str(start)},
        )

    async def fetch_funding_payments(
        self, user: str, *, start_ms: int, end_ms: int | None = None
    ) -> tuple[account.UserFundingRow, ...]:
        """Funding paid and received, at most 500 rows."""
        answer: tuple[account.UserFundingRow, ...] = await self._read(
            "userFunding", user=user, startTime=start_ms, endTime=end_ms
        )
        return answer

    async def fetch_ledger_updates(
        self, user: str, *, start_ms: int, end_ms: int | None = None
    ) -> tuple[account.LedgerUpdate, ...]:
        """Deposits, withdrawals, transfers and other changes that are not funding."""
        answer: tuple[account.LedgerUpdate, ...] = await self._read(
            "userNonFundingLedgerUpdates",
            user=user,
            startTime=start_ms,
            endTime=end_ms,
        )
        return answer

    async def fetch_fees(self, user: str) -> account.UserFees:
        """Fee rates and the schedule behind them."""
        answer: account.UserFees = await self._read("userFees", user=user)
        return answer

    async def fetch_rate_budget(self, user: str) -> account.RateBudget:
        """Address budget: actions used and allowed."""
        answer: account.RateBudget = await self._read("userRateLimit", user=user)
        return answer

    async def fetch_role(self, user: str) -> account.UserRole:
        """Whether an address is an account, an agent, a vault or unknown; costs 60, ask once."""
        answer: account.UserRole = await self._read("userRole", user=user)
        return answer

    async def fetch_abstraction(self, user: str) -> str:
        """Account mode: default, disabled, unifiedAccount or portfolioMargin."""
        answer: str = await self._read("userAbstraction", user=user)
        return answer

    async def fetch_extra_agents(self, user: str) -> tuple[account.ExtraAgent, ...]:
        """Named agents of an account with their expiry."""
        answer: tuple[account.ExtraAgent, ...] = await self._read("extraAgents", user=user)
        return answer

    async def fetch_active_asset_data(self, user: str, coin: str) -> account.ActiveAssetData:
        """Leverage setting and room on one coin, also without a position."""
        answer: account.ActiveAssetData = await self._read("activeAssetData", user=user, coin=coin)
        return answer

    async def fetch_sub_accounts(self, user: str) -> tuple[account.SubAccount, ...]:
        """Sub-accounts of a master; empty when it has none."""
        answer: tuple[account.SubAccount, ...] | None = await self._read("subAccounts", user=user)
        return answer or ()

    async def fetch_twap_history(self, user: str) -> tuple[account.TwapHistoryRow, ...]:
        """TWAPs and their ends; row times are seconds."""
        answer: tuple[account.TwapHistoryRow, ...] = await self._read("twapHistory", user=user)
        return answer


def _require_success(reply: RestReply, endpoint: str, *, write: bool) -> None:
    if 200 <= reply.status < 300:
        return
    text = reply.body[:RAW_KEPT].decode("utf-8", errors="replace")
    message = f"{endpoint}: the venue answered {reply.status}: {text[:200]}"
    metadata = {"http_status": str(reply.status), "payload": text}
    error: MeshError
    if reply.status in _REFUSED_UNREAD:
        error = InvalidRequest(message, sent=Sent.YES, metadata=metadata)
    elif reply.status in _FORBIDDEN:
        error = AuthenticationFailed(message, sent=Sent.YES, metadata=metadata)
    elif write:
        error = OutcomeUnknown(message, metadata=metadata)
    else:
        error = ProtocolViolation(message, sent=Sent.YES, metadata=metadata)
    raise error
