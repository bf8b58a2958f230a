"""Reads of accounts: keys, nonces, limits, funding, and the histories of money. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulator.lighter import account_rows, history
from simulator.lighter.accounts import ALL_KEYS, MAX_API_KEY, LighterAccount
from simulator.lighter.errors import Code, Refused, bad_param
from simulator.lighter.request import Body, Read, Request, authorised, number, page
from simulator.lighter.venue import LighterVenue


def _account(venue: LighterVenue, request: Request) -> Body:
    value = request.text("value")
    match request.text("by"):
        case "index":
            found = [venue.accounts.get(number(value, "value"))]
        case "l1_address":
            found = venue.accounts.of_owner(value)
        case _:
            raise bad_param("by must be index or l1_address")
    if not found:
        raise Refused(Code.ACCOUNT_NOT_FOUND)
    active = request.flag("active_only")
    rows = [account_rows.detailed(venue, account, active_only=active) for account in found]
    return {"total": len(rows), "accounts": rows}


def _by_owner(venue: LighterVenue, request: Request) -> Body:
    address = request.text("l1_address")
    found = venue.accounts.of_owner(address)
    if not found:
        raise Refused(Code.ACCOUNT_NOT_FOUND)
    return {"l1_address": found[0].l1_address, "sub_accounts": [account_rows.summary(venue, item) for item in found]}


def _api_keys(venue: LighterVenue, request: Request) -> Body:
    account = venue.accounts.get(request.integer("account_index"))
    wanted = request.integer("api_key_index", ALL_KEYS)
    keys = [key for key in account.keys.values() if wanted in (ALL_KEYS, key.index)]
    if not keys:
        raise Refused(Code.API_KEY_NOT_FOUND)
    return {
        "api_keys": [
            {
                "account_index": account.index,
                "api_key_index": key.index,
                "nonce": key.next_nonce,
                "public_key": key.public_key.hex(),
                "transaction_time": key.changed_us,
            }
            for key in keys
        ]
    }


def _next_nonce(venue: LighterVenue, request: Request) -> Body:
    account = venue.accounts.get(request.integer("account_index"))
    index = request.integer("api_key_index")
    if not 0 <= index <= MAX_API_KEY:
        raise Refused(Code.INVALID_API_KEY_INDEX)
    key = account.keys.get(index)
    return {"nonce": key.next_nonce if key else 0}


def _limits(venue: LighterVenue, request: Request) -> Body:
    account = authorised(venue, request, request.integer("account_index"))
    return {
        "max_llp_percentage": 100,
        "max_llp_amount": "0.000000",
        "user_tier": account.tier.name,
        "can_create_public_pool": False,
        "user_tier_name": account.tier.name,
        "current_maker_fee_tick": account.tier.maker_ticks,
        "current_taker_fee_tick": account.tier.taker_ticks,
        "leased_lit": "0.00000000",
        "effective_lit_stakes": "0.00000000",
        "user_tier_last_update": account.tier_changed_s,
    }


def _metadata(venue: LighterVenue, request: Request) -> Body:
    body = _account(venue, request)
    kept = (
        "account_index",
        "name",
        "description",
        "can_invite",
        "referral_points_percentage",
        "created_at",
        "can_rfq",
        "can_rfq_market_ids",
        "metadata",
        "agent_enabled",
    )
    return {"account_metadatas": [{name: row[name] for name in kept} for row in body["accounts"]]}


def _position_funding(venue: LighterVenue, request: Request) -> Body:
    account = authorised(venue, request, request.integer("account_index"))
    side, limit = request.text("side", "all"), request.limit()
    rows = [account_rows.funding_row(venue, event) for event in reversed(account_rows.fundings(venue, account))]
    kept = [row for row in rows if side in ("all", row["position_side"])]
    return page("position_fundings", kept, request.text("cursor", ""), limit)


def _money(rows: Callable[[LighterVenue, LighterAccount, str], Body]) -> Read:
    """A history of money, for the account's own token."""

    def answer(venue: LighterVenue, request: Request) -> Body:
        account = authorised(venue, request, request.integer("account_index"))
        return rows(venue, account, request.text("cursor", ""))

    return answer


def _transfer_fee(venue: LighterVenue, request: Request) -> Body:
    authorised(venue, request, request.integer("account_index"))
    return {"transfer_fee_usdc": 0}


READS: Mapping[str, Read] = {
    "account": _account,
    "accountsByL1Address": _by_owner,
    "apikeys": _api_keys,
    "nextNonce": _next_nonce,
    "accountLimits": _limits,
    "accountMetadata": _metadata,
    "positionFunding": _position_funding,
    "deposit/history": _money(history.deposits),
    "withdraw/history": _money(history.withdrawals),
    "transfer/history": _money(history.transfers),
    "transferFeeInfo": _transfer_fee,
}
