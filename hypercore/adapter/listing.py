"""What trades, with the terms the venue keeps elsewhere than in its lists: fee scale, caps, and who is at its cap.

Of sessions the protocol says nothing: no request tells whether a price comes from the underlying market or from the
book, so that `oracle_session` stays unstated. A market that its deployer halts for good is listed as delisted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hypercore.adapter.market_normalizer import DexTerms, normalize_instrument
from hypercore.adapter.views import Directory
from hypercore.assets import MAIN_DEX
from hypercore.rest import HyperCoreRest
from venuemesh.clock import Clock
from venuemesh.errors import MeshError
from venuemesh.v1 import instrument_pb2

log = logging.getLogger(__name__)


class Listing:
    """Reads the instruments of one dex, and spot where wanted. What it learns of terms it keeps over a failed read."""

    def __init__(self, rest: HyperCoreRest, directory: Directory, clock: Clock, *, spot: bool) -> None:
        self._rest = rest
        self._directory = directory
        self._clock = clock
        self._spot = spot
        self._terms = DexTerms()

    async def fetch(self) -> Sequence[instrument_pb2.Instrument]:
        """Every instrument with its rules.

        Raises:
            VenueUnavailable, RateLimited, ProtocolViolation: the lists cannot be read.
        """
        dex = self._directory.dex
        universe = await self._rest.fetch_universe([dex], include_spot=self._spot)
        for row in universe.skipped:
            log.warning("instrument_skipped", extra={"row": row})
        self._directory.replace(universe)
        try:
            self._terms = await self._fetch_terms(dex)
        except MeshError as error:
            log.warning("dex_terms_not_read", extra={"dex": dex, "error": error.message})
        now_ns, venue = self._clock.now_ns(), self._directory.venue
        return [normalize_instrument(row, venue=venue, updated_ns=now_ns, terms=self._terms) for row in universe.assets]

    async def _fetch_terms(self, dex: str) -> DexTerms:
        at_cap = frozenset(await self._rest.fetch_perps_at_open_interest_cap(dex))
        if dex == MAIN_DEX:
            return DexTerms(at_cap=at_cap)
        rows = await self._rest.fetch_perp_dexs()
        found = next((row for row in rows if row is not None and row.name == dex), None)
        limits = await self._rest.fetch_perp_dex_limits(dex)
        caps = {row.coin: row.amount for row in (found.asset_to_streaming_oi_cap if found else ())}
        caps |= {row.coin: row.amount for row in (limits.coin_to_oi_cap if limits else ())}
        return DexTerms(fee_scale=found.deployer_fee_scale if found else None, open_interest_caps=caps, at_cap=at_cap)
