"""Unified accounts: one balance of a token in spot is the cash of every margin pool of that token. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.engine.accounts import Ledger
from simulator.engine.engine import Engine
from simulator.engine.events import BalanceChanged


def unify(engine: Engine, name: str, token: str, pools: Sequence[str], now_ms: int) -> None:
    """Move the cash of an account's `pools` into its spot balance of `token` and let them all share it.

    Every pool must have `token` as its collateral. Open positions come along and from then on support each
    other. Nothing happens when it is done already.
    """
    owner = engine.open_account(name)
    if owner.unified:
        return
    purse = owner.balance(token)
    shared = Ledger(purse=purse)
    for pool in pools:
        before = owner.ledger(pool)
        purse.total += before.cash
        shared.positions.update(before.positions)
        shared.leverage.update(before.leverage)
    for pool in pools:
        owner.ledgers[pool] = shared
    owner.unified = token
    engine.emit(BalanceChanged(account=name, pool=None, token=token, time_ms=now_ms))


def separate(engine: Engine, name: str, now_ms: int) -> bool:
    """Give an account separate, empty pools again; the money stays in spot.

    False, and nothing changes, while it has open positions or live orders, whose margin would be gone.
    """
    owner = engine.open_account(name)
    token = owner.unified
    if not token:
        return True
    pools = list(owner.ledgers)
    shared = owner.ledger(pools[0])
    if any(True for _ in shared.open_positions()) or engine.live_orders(name):
        return False
    for pool in pools:
        keys = [key for key, item in engine.instruments.items() if item.perpetual and item.pool == pool]
        owner.ledgers[pool] = Ledger(
            positions={key: shared.positions[key] for key in keys if key in shared.positions},
            leverage={key: shared.leverage[key] for key in keys if key in shared.leverage},
        )
    owner.unified = ""
    engine.emit(BalanceChanged(account=name, pool=None, token=token, time_ms=now_ms))
    return True
