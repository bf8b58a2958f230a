"""Latency of a submit, all ways side by side: `python -m benchmarks.submits`.

Every round sends one order by each way, in an order that rotates, so that whatever else the machine does hits all
alike. The rounds are paced below what the venues allow: 2,000 messages a minute at Hyperliquid, 200 at Lighter.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from benchmarks import contenders_hyperliquid, contenders_lighter
from benchmarks.bare import bare
from benchmarks.contenders import Bare, BareJournal, Contender, OverGrpc, channel_to
from benchmarks.figures import combined, in_ms
from benchmarks.world import Mesh, mesh, new_hyperliquid_account, new_lighter_account, simulator_tables

ROUND_S = 0.15
"""400 rounds a minute: four messages each at Hyperliquid."""
LIGHTER_EVERY = 6
"""67 of these rounds a minute: two messages each at Lighter."""
WARM_UP = 12


@dataclass(slots=True)
class Lane:
    """One venue's contenders and their samples, one of each round, in seconds."""

    contenders: dict[str, Contender]
    submits: dict[str, list[float]] = field(default_factory=dict)
    cancels: dict[str, list[float]] = field(default_factory=dict)

    async def round(self, number: int, *, kept: bool) -> None:
        """One order each."""
        names = list(self.contenders)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            way = self.contenders[name]
            await way.prepare()
            began_s = time.perf_counter()
            await way.submit()
            taken_s = time.perf_counter()
            await way.cancel()
            ended_s = time.perf_counter()
            if kept:
                self.submits.setdefault(name, []).append(taken_s - began_s)
                self.cancels.setdefault(name, []).append(ended_s - taken_s)


async def reference_price(mesh: Mesh) -> Decimal:
    """A price far below bitcoin's, in whole dollars, which every venue takes."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{mesh.known['simulator']['hyperliquid_url']}/info", json={"type": "allMids"}) as answer,
    ):
        return Decimal(int(Decimal((await answer.json())["BTC"]) * Decimal("0.8")))


class Accounts:
    """The other contenders' accounts."""

    def __init__(self) -> None:
        names = ("raw", "sdk", "ccxt")
        self.hyperliquid = {name: new_hyperliquid_account() for name in names}
        self.lighter = {name: new_lighter_account(place) for place, name in enumerate(names)}

    def tables(self) -> dict[str, dict[str, Any]]:
        """For the simulator."""
        return simulator_tables(self.hyperliquid, self.lighter)


async def measure(mesh: Mesh, accounts: Accounts, *, rounds: int, round_s: float = ROUND_S) -> dict[str, Any]:
    """Run the rounds; latencies and the ratios of N1 and N2 for each venue."""
    price, run_id, facts = await reference_price(mesh), f"s{time.time_ns() // 1_000_000}", mesh.known["simulator"]
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        echo = await enter(bare())
        proxy = await enter(bare(echo))
        channels = {
            name: await enter(channel_to(address))
            for name, address in {
                "echo": echo,
                "proxy": proxy,
                "hyperliquid": mesh.grpc("gateway_hyperliquid"),
                "lighter": mesh.grpc("gateway_lighter"),
                "router": mesh.grpc("router"),
            }.items()
        }

        def over(channel: str, venue: str) -> OverGrpc:
            kind = Bare if channel in ("echo", "proxy") else OverGrpc
            return kind(channels[channel], venue=venue, price=price, run_id=f"{run_id}-{channel[:2]}{venue[:2]}")

        first, second = contenders_hyperliquid, contenders_lighter
        url, lighter_url = facts["hyperliquid_url"], facts["lighter_url"]
        journal = await enter(BareJournal.on(mesh.known["nats"]["url"]))
        hyperliquid = Lane(
            {
                "venue raw": await enter(first.raw(facts["hyperliquid_ws_url"], accounts.hyperliquid["raw"], price)),
                "SDK": await enter(first.sdk(url, accounts.hyperliquid["sdk"], price)),
                "ccxt": await enter(first.ccxt(url, accounts.hyperliquid["ccxt"], price)),
                "gateway": (watched := over("hyperliquid", "hyperliquid")),
                "router": over("router", "hyperliquid"),
                "bare echo": over("echo", "hyperliquid"),
                "bare proxy": over("proxy", "hyperliquid"),
                "bare journal": journal,
            }
        )
        raw_lighter = await enter(second.raw(facts["lighter_ws_url"], accounts.lighter["raw"], price))
        lighter_ways: dict[str, Contender] = {"venue raw": raw_lighter}
        if second.signer_library() is not None:
            lighter_ways["SDK"] = await enter(second.sdk(lighter_url, accounts.lighter["sdk"], price))
            lighter_ways["ccxt"] = await enter(second.ccxt(lighter_url, accounts.lighter["ccxt"], price))
        watched_lighter = over("lighter", "lighter")
        lighter_ways["gateway"] = Resting(watched_lighter)
        lighter_ways["router"] = Resting(over("router", "lighter"))
        lighter_ways["bare echo"] = over("echo", "lighter")
        lighter_ways["bare proxy"] = over("proxy", "lighter")
        lighter_ways["bare journal"] = journal
        lighter = Lane(lighter_ways)
        gc.collect()
        gc.freeze()
        await _run(hyperliquid, lighter, rounds=rounds, round_s=round_s)
        gc.unfreeze()
        found = {"hyperliquid": _figures(hyperliquid.submits), "lighter": _figures(lighter.submits)}
        found["lighter"]["signing"] = in_ms(raw_lighter.signing_s)
        cancels = {name: in_ms(values) for name, values in hyperliquid.cancels.items() if not name.startswith("bare")}
        return {
            "latency": found,
            "stages": {"hyperliquid": _figures(watched.stages_s), "lighter": _figures(watched_lighter.stages_s)},
            "cancel_latency": {"hyperliquid": cancels},
            "ratios": {"hyperliquid": ratios(hyperliquid.submits), "lighter": ratios(lighter.submits)},
        }


class Resting:
    """A way whose orders are left where they are."""

    def __init__(self, way: Contender) -> None:
        self.prepare, self.submit = way.prepare, way.submit

    async def cancel(self) -> None:
        """Left resting."""


async def _run(often: Lane, seldom: Lane, *, rounds: int, round_s: float) -> None:
    began_s = time.monotonic()
    for number in range(rounds + WARM_UP):
        kept = number >= WARM_UP
        await asyncio.sleep(max(0.0, began_s + number * round_s - time.monotonic()))
        await often.round(number, kept=kept)
        if number % LIGHTER_EVERY == 0:
            await seldom.round(number // LIGHTER_EVERY, kept=kept)


def _figures(samples: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    return {name: in_ms(values) for name, values in samples.items()}


def ratios(samples: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """N1 and N2 from the medians; the first two in milliseconds."""
    found = {
        "gateway adds, ms": combined(samples, lambda m: 1_000 * (m["gateway"] - m["venue raw"])),
        "router adds beyond a bare hop, ms": combined(
            samples, lambda m: 1_000 * (m["router"] - m["gateway"] - (m["bare proxy"] - m["bare echo"]))
        ),
        "gateway / venue raw": combined(samples, lambda m: m["gateway"] / m["venue raw"]),
        "router / gateway": combined(samples, lambda m: m["router"] / m["gateway"]),
        "gateway / venue raw + bare echo + bare journal": combined(
            samples, lambda m: m["gateway"] / (m["venue raw"] + m["bare echo"] + m["bare journal"])
        ),
    }
    for other in ("SDK", "ccxt"):
        if other in samples:
            found[f"gateway / {other}"] = combined(samples, lambda m, other=other: m["gateway"] / m[other])
            found[f"router / {other}"] = combined(samples, lambda m, other=other: m["router"] / m[other])
    return found


async def _alone(rounds: int) -> None:
    accounts = Accounts()
    with tempfile.TemporaryDirectory(prefix="venuemesh-bench-") as folder:
        async with mesh(Path(folder), accounts.tables()) as running:
            print(json.dumps(await measure(running, accounts, rounds=rounds), indent=2))


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=600)
    uvloop.run(_alone(parser.parse_args().rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
