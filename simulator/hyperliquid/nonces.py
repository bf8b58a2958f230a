"""Nonces per signer: the 100 highest, inside a window around block time. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort

KEPT = 100
DAY_MS = 86_400_000
BEHIND_MS = 2 * DAY_MS
AHEAD_MS = DAY_MS


class Nonces:
    """Used nonces of every signer; a new one must be unused, above the lowest kept and inside the window."""

    def __init__(self) -> None:
        self._used: dict[str, list[int]] = {}

    def use(self, signer: str, nonce: int, now_ms: int) -> str | None:
        """Burn `nonce`; the venue's error text when it may not be used, else None."""
        used = self._used.setdefault(signer, [])
        lowest = now_ms - BEHIND_MS
        if nonce <= lowest:
            return f"Invalid nonce: nonce too low {nonce} < {lowest}"
        if nonce >= now_ms + AHEAD_MS:
            return f"Invalid nonce: nonce too high {nonce} > {now_ms + AHEAD_MS}"
        place = bisect_left(used, nonce)
        if place < len(used) and used[place] == nonce:
            return f"Invalid nonce: duplicate nonce {nonce}"
        if len(used) >= KEPT:
            if nonce < used[0]:
                return f"Invalid nonce: nonce too low {nonce} < {used[0]}"
            del used[0]
        insort(used, nonce)
        return None

    def forget(self, signer: str) -> None:
        """Drop a signer's nonces, as the venue does when an agent is removed."""
        self._used.pop(signer, None)
