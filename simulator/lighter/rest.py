"""REST by name: parameters in, body out. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.lighter import account_reads, account_rows, market_reads, order_reads
from simulator.lighter.errors import Code, Refused
from simulator.lighter.request import Body, Read, Request, authorised
from simulator.lighter.venue import LighterVenue

READS: Mapping[str, Read] = {**market_reads.READS, **account_reads.READS, **order_reads.READS}
WITHOUT_CODE = frozenset({"withdrawalDelay"})


def read(venue: LighterVenue, name: str, request: Request) -> Body:
    """Answer of `GET /api/v1/<name>`.

    Raises:
        Refused: 29404 with HTTP 404 for an unknown name, else whatever the read refuses.
    """
    handler = READS.get(name)
    if handler is None:
        raise Refused(Code.NOT_FOUND, status=404)
    body = handler(venue, request)
    return body if name in WITHOUT_CODE else {"code": 200, **body}


def change_tier(venue: LighterVenue, request: Request) -> Body:
    """`POST changeAccountTier`: only while flat and without orders."""
    account = authorised(venue, request, request.integer("account_index"))
    tier = request.text("new_tier")
    if tier == account.tier.name:
        raise Refused(Code.TIER_SAME)
    owned = venue.accounts.of_owner(account.l1_address)
    if any(venue.engine.live_orders(item.name) for item in owned):
        raise Refused(Code.TIER_ORDERS)
    rows = [account_rows.detailed(venue, item, active_only=True) for item in owned]
    if any(row["positions"] for row in rows):
        raise Refused(Code.TIER_POSITIONS)
    try:
        venue.set_tier(account, tier, request.now_ms)
    except KeyError as error:
        raise Refused(Code.TIER_INVALID) from error
    return {"code": 200}
