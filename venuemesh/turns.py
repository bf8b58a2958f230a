"""Who goes first on the event loop.

A caller's answer passes through several tasks, each of which runs a turn of the loop after the one before. Work that
nobody waits for lets them pass by giving way for as many turns.
"""

from __future__ import annotations

import asyncio

ANSWER = 3
"""Turns from a venue's reply to the answer of the call that waits for it: who asked, who submits, who answers."""


async def give_way(turns: int = ANSWER) -> None:
    """Return when the loop has come round this often."""
    for _ in range(turns):
        await asyncio.sleep(0)
