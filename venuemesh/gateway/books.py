"""Placeholder to be replaced."""

from __future__ import annotations
from decimal import Decimal


class Books:
    async def best_opposite(self, symbol: str, *, buy: bool) -> Decimal:
        raise NotImplementedError
