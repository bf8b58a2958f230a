"""Which assets exist, what they are called, and the number an action carries for each.

Three names per asset: `coin` (the venue's, `BTC`, `@107`, `xyz:TSLA`), `asset_id` (in actions) and `symbol`
(the mesh's, `BTC/USDC:USDC`, `HYPE/USDC`, `TSLA/USDC:USDC`). Ids are computed from what the venue lists,
never remembered: indices differ between networks.
Source: venue reference section 1.1; trade.xyz reference section 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final

from hypercore.messages import MarginTier, Meta, PerpDex, PerpRow, SpotMeta, SpotPair, SpotToken
from venuemesh.errors import InstrumentNotFound, ProtocolViolation

MAIN_DEX: Final = ""
"""Name of Hyperliquid's own perp dex, index 0."""

SPOT_OFFSET: Final = 10_000
BUILDER_OFFSET: Final = 100_000
BUILDER_STRIDE: Final = 10_000

# Margin tables below this id are a single tier whose maximum leverage is the id; they are not listed.
_FIRST_LISTED_TABLE: Final = 50
_ZERO: Final = Decimal(0)
_SEPARATORS: Final = re.compile(r"[\s/:]+")


class AssetKind(StrEnum):
    """Perpetual or spot pair."""

    PERP = "perp"
    SPOT = "spot"


class MarginMode(StrEnum):
    """Which margin a perp takes; `noCross` lets isolated margin be removed, `strictIsolated` does not."""

    CROSS = "cross"
    NO_CROSS = "noCross"
    STRICT_ISOLATED = "strictIsolated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A spot token; `wire_name` is the form transfers carry, `USDC:0x6d1e...`."""

    index: int
    name: str
    token_id: str
    sz_decimals: int
    wei_decimals: int

    @property
    def wire_name(self) -> str:
        return f"{self.name}:{self.token_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One tradable asset, with everything an order check needs.

    `dex` is "" for Hyperliquid's own perps and for spot. `settle` is the collateral token of a perp and None
    on spot. `max_leverage` is 0 on spot. `margin_tiers` is empty where the venue lists no table.
    """

    asset_id: int
    coin: str
    symbol: str
    kind: AssetKind
    dex: str
    index: int
    base: str
    quote: str
    settle: str | None
    sz_decimals: int
    collateral: Token | None = None
    base_token: Token | None = None
    quote_token: Token | None = None
    max_leverage: int = 0
    margin_mode: MarginMode = MarginMode.CROSS
    margin_tiers: tuple[MarginTier, ...] = ()
    is_delisted: bool = False
    growth_mode: bool = False

    @property
    def is_spot(self) -> bool:
        return self.kind is AssetKind.SPOT

    @property
    def only_isolated(self) -> bool:
        return self.margin_mode is not MarginMode.CROSS


def perp_asset_id(dex_index: int, position: int) -> int:
    """Number an action carries for a perp.

    Args:
        dex_index: place in `perpDexs`; 0 is Hyperliquid itself.
        position: place in that dex's `meta.universe`, from 0; delisted rows keep theirs.
    Raises:
        ValueError: an argument is negative, or a builder dex has more rows than its range of ids.
    Source: hyperliquid-python-sdk 0.24.0 info.py; venue reference section 1.1.
    """
    if dex_index < 0 or position < 0:
        raise ValueError(f"negative index: dex {dex_index}, position {position}")
    limit = SPOT_OFFSET if dex_index == 0 else BUILDER_STRIDE
    if position >= limit:
        raise ValueError(f"position {position} of dex {dex_index} leaves its range of {limit} ids")
    return position if dex_index == 0 else BUILDER_OFFSET + dex_index * BUILDER_STRIDE + position


def spot_asset_id(pair_index: int) -> int:
    """Number an action carries for a spot pair; `pair_index` is the row's `index` field, not its place."""
    if not 0 <= pair_index < BUILDER_OFFSET - SPOT_OFFSET:
        raise ValueError(f"spot pair index {pair_index} is out of range")
    return SPOT_OFFSET + pair_index


class Universe:
    """Every asset of the chosen dexes (and spot), found by coin, id or symbol. Immutable.

    `skipped` names rows that cannot be traded because the venue's own lists do not fit together, with why.
    """

    __slots__ = ("_by_coin", "_by_id", "_by_symbol", "assets", "skipped", "tokens")

    def __init__(
        self, assets: Iterable[Asset], tokens: Mapping[int, Token] | None = None, skipped: Iterable[str] = ()
    ) -> None:
        self.assets: tuple[Asset, ...] = tuple(assets)
        self.tokens: Mapping[int, Token] = dict(tokens or {})
        self.skipped: tuple[str, ...] = tuple(skipped)
        self._by_id = {asset.asset_id: asset for asset in self.assets}
        self._by_symbol = {asset.symbol: asset for asset in self.assets}
        self._by_coin: dict[str, Asset] = {}
        for asset in self.assets:
            kept = self._by_coin.setdefault(asset.coin, asset)
            if kept.is_delisted and not asset.is_delisted:
                self._by_coin[asset.coin] = asset

    def __len__(self) -> int:
        return len(self.assets)

    def by_coin(self, coin: str) -> Asset:
        """The asset the venue calls `coin`. Raises InstrumentNotFound."""
        return self._found(self._by_coin.get(coin), "coin", coin)

    def by_id(self, asset_id: int) -> Asset:
        """The asset an action's number means. Raises InstrumentNotFound."""
        return self._found(self._by_id.get(asset_id), "asset id", str(asset_id))

    def by_symbol(self, symbol: str) -> Asset:
        """The asset of a unified symbol. Raises InstrumentNotFound."""
        return self._found(self._by_symbol.get(symbol), "symbol", symbol)

    def get_coin(self, coin: str) -> Asset | None:
        """As `by_coin`, None when absent: for stream rows of assets we do not carry."""
        return self._by_coin.get(coin)

    def token_named(self, name: str) -> Token:
        """The token of a name such as `USDC`. Raises InstrumentNotFound."""
        for token in self.tokens.values():
            if token.name == name:
                return token
        raise InstrumentNotFound(f"no token named {name!r} is listed by the venue", field="asset")

    @staticmethod
    def _found(asset: Asset | None, what: str, wanted: str) -> Asset:
        if asset is None:
            raise InstrumentNotFound(
                f"no instrument with {what} {wanted[:64]!r} at this venue",
                field="symbol",
                metadata={"wanted": wanted[:64]},
            )
        return asset


def build_universe(
    *,
    spot_meta: SpotMeta,
    metas: Mapping[str, Meta],
    perp_dexs: Sequence[PerpDex | None] = (None,),
    include_spot: bool = True,
    token_aliases: Mapping[str, str] | None = None,
) -> Universe:
    """The universe of the dexes in `metas`, in that order, then spot.

    Args:
        spot_meta: also resolves each dex's collateral token, so it is needed without spot trading too.
        metas: `meta` answers by dex name; "" is Hyperliquid itself.
        perp_dexs: the `perpDexs` answer; needed to number any dex but "".
        include_spot: add the spot pairs.
        token_aliases: venue token name -> name in symbols, where an operator wants `BTC` for `UBTC`.
    Raises:
        ProtocolViolation: a dex is not in `perp_dexs`, or its collateral token is not listed.
    """
    tokens = {row.index: _token(row) for row in spot_meta.tokens}
    aliases = token_aliases or {}
    drafts: list[Asset] = []
    skipped: list[str] = []
    for dex, meta in metas.items():
        drafts += _perps(dex, dex_index(dex, perp_dexs), meta, tokens, aliases, skipped)
    if include_spot:
        drafts += _spots(spot_meta.universe, tokens, aliases, skipped)
    return Universe(_with_unique_symbols(drafts), tokens, skipped)


def dex_index(dex: str, perp_dexs: Sequence[PerpDex | None]) -> int:
    """Place of a dex in the `perpDexs` answer. Raises ProtocolViolation when it is not there."""
    if dex == MAIN_DEX:
        return 0
    for index, row in enumerate(perp_dexs):
        if row is not None and row.name == dex:
            return index
    raise ProtocolViolation(f"dex {dex!r} is not in the venue's list of dexes", metadata={"dex": dex})


def _token(row: SpotToken) -> Token:
    return Token(
        index=row.index,
        name=row.name,
        token_id=row.token_id,
        sz_decimals=row.sz_decimals,
        wei_decimals=row.wei_decimals,
    )


def _perps(
    dex: str,
    number: int,
    meta: Meta,
    tokens: Mapping[int, Token],
    aliases: Mapping[str, str],
    skipped: list[str],
) -> list[Asset]:
    collateral = tokens.get(meta.collateral_token)
    if collateral is None:
        raise ProtocolViolation(
            f"collateral token {meta.collateral_token} of dex {dex!r} is not in spotMeta",
            metadata={"dex": dex},
        )
    settle = _code(collateral.name, aliases)
    tables = {table.id: table.table.margin_tiers for table in meta.margin_tables}
    prefix = f"{dex}:" if dex else ""
    assets = []
    for position, row in enumerate(meta.universe):
        if not row.name.startswith(prefix) or row.name == prefix:
            skipped.append(f"perp {row.name!r}: not a name of dex {dex!r}")
            continue
        base = _code(row.name.removeprefix(prefix), aliases)
        assets.append(
            Asset(
                asset_id=perp_asset_id(number, position),
                coin=row.name,
                symbol=f"{base}/{settle}:{settle}",
                kind=AssetKind.PERP,
                dex=dex,
                index=position,
                base=base,
                quote=settle,
                settle=settle,
                sz_decimals=row.sz_decimals,
                collateral=collateral,
                max_leverage=row.max_leverage,
                margin_mode=_margin_mode(row),
                margin_tiers=_tiers(row, tables),
                is_delisted=row.is_delisted,
                growth_mode=row.growth_mode == "enabled",
            )
        )
    return assets


def _margin_mode(row: PerpRow) -> MarginMode:
    """The newer `marginMode`, or the older flag; an unknown mode is taken as the strictest."""
    if row.margin_mode is not None:
        try:
            return MarginMode(row.margin_mode)
        except ValueError:
            return MarginMode.STRICT_ISOLATED
    return MarginMode.STRICT_ISOLATED if row.only_isolated else MarginMode.CROSS


def _tiers(row: PerpRow, tables: Mapping[int, tuple[MarginTier, ...]]) -> tuple[MarginTier, ...]:
    table_id = row.margin_table_id
    if table_id is None:
        return ()
    if table_id in tables:
        return tables[table_id]
    if 0 < table_id < _FIRST_LISTED_TABLE:
        return (MarginTier(lower_bound=_ZERO, max_leverage=table_id),)
    return ()


def _spots(
    pairs: Iterable[SpotPair], tokens: Mapping[int, Token], aliases: Mapping[str, str], skipped: list[str]
) -> list[Asset]:
    assets = []
    for pair in pairs:
        base_token, quote_token = (tokens.get(index) for index in pair.tokens)
        if base_token is None or quote_token is None:
            skipped.append(f"spot {pair.name!r}: token {pair.tokens} is not listed")
            continue
        base, quote = _code(base_token.name, aliases), _code(quote_token.name, aliases)
        assets.append(
            Asset(
                asset_id=spot_asset_id(pair.index),
                coin=pair.name,
                symbol=f"{base}/{quote}",
                kind=AssetKind.SPOT,
                dex=MAIN_DEX,
                index=pair.index,
                base=base,
                quote=quote,
                settle=None,
                sz_decimals=base_token.sz_decimals,
                base_token=base_token,
                quote_token=quote_token,
            )
        )
    return assets


def _code(name: str, aliases: Mapping[str, str]) -> str:
    """Currency code of a symbol: upper case, without the characters symbols are made of."""
    cleaned = _SEPARATORS.sub("_", name.strip()).upper()
    return aliases.get(name, cleaned)


def _with_unique_symbols(drafts: Sequence[Asset]) -> list[Asset]:
    """Give each symbol to one asset: a listed one before a delisted one, then the first in order.

    The others are named after their dex (`FLX-TSLA/USDC:USDC`), or their coin if that is taken as well.
    """
    taken: set[str] = set()
    named: dict[int, Asset] = {}
    for asset in sorted(drafts, key=lambda draft: draft.is_delisted):
        tail = asset.symbol.partition("/")[2]
        coin_base = _SEPARATORS.sub("-", asset.coin)
        choices = [asset.base, f"{asset.dex.upper()}-{asset.base}" if asset.dex else coin_base]
        choices.append(f"{coin_base}#{asset.asset_id}")
        base = next(choice for choice in choices if f"{choice}/{tail}" not in taken)
        taken.add(f"{base}/{tail}")
        named[asset.asset_id] = replace(asset, symbol=f"{base}/{tail}", base=base)
    return [named[draft.asset_id] for draft in drafts]
