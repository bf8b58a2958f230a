"""The requirements N1 to N8 judged by what was measured, and the comparison with an earlier run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

TOLERANCE = 1.5
"""A ratio may be this many times its committed value: what the same code shows from run to run on a busy machine."""
HOP_ALLOWANCE_MS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line of the table; `met` compares value and bound, `spread` is of the run's segments."""

    requirement: str
    what: str
    value: float
    bound: float
    unit: str
    at_least: bool = False
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        """Whether the value keeps to the bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def row(self) -> dict[str, Any]:
        """For the file."""
        return {**asdict(self), "met": self.met}


def judge(results: Mapping[str, Any]) -> list[Target]:
    """Every requirement for which there is a measurement."""
    return [*_orders(results), *_streams(results), *_processes(results)]


def _orders(results: Mapping[str, Any]) -> Iterator[Target]:
    bounds = {
        "gateway adds, ms": ("N1", 1.0, "ms"),
        "router adds beyond a bare hop, ms": ("N1", HOP_ALLOWANCE_MS, "ms"),
        "gateway / SDK": ("N2", 1.0, "x"),
        "router / SDK": ("N2", 1.5, "x"),
    }
    for venue, ratios in results.get("submits", {}).get("ratios", {}).items():
        for name, (requirement, bound, unit) in bounds.items():
            if (found := ratios.get(name)) is not None:
                yield Target(
                    requirement=requirement,
                    what=f"{venue}: {name.removesuffix(', ms')}",
                    value=found["value"],
                    bound=bound,
                    unit=unit,
                    spread=(found["low"], found["high"]),
                )
    if "risk_checks" in results:
        median_ms = results["risk_checks"]["median_us"] / 1_000
        yield Target(requirement="N3", what="all risk checks, median", value=median_ms, bound=0.1, unit="ms")


def _streams(results: Mapping[str, Any]) -> Iterator[Target]:
    if "events" in results:
        sustained, latency = results["events"]["sustained"], results["events"]["latency"]
        for name, key in (("sustained", "per_s"), ("with a core each", "per_s_with_a_core_each")):
            yield Target(
                requirement="N4", what=f"events, {name}", value=sustained[key], bound=20_000, unit="/s", at_least=True
            )
        handler_ms = latency["publish-to-handler"]["median_ms"]
        yield Target(requirement="N4", what="publish to handler, median", value=handler_ms, bound=1.0, unit="ms")
    for place, found in results.get("ticks", {}).get("after the venue's frame", {}).items():
        for name, key, bound in (("median", "median_ms", 3.0), ("p99", "p99_ms", 10.0)):
            yield Target(requirement="N5", what=f"tick to {place}, {name}", value=found[key], bound=bound, unit="ms")
    if "portfolio_streams" in results:
        streams = results["portfolio_streams"]
        what = f"{streams['streams']} streams, update p99"
        yield Target(requirement="N6", what=what, value=streams["events"]["p99_ms"], bound=500, unit="ms")
        lost = streams["with_a_gap"] + streams["closed"]
        yield Target(requirement="N6", what="streams with a gap or closed", value=lost, bound=0, unit="")


def _processes(results: Mapping[str, Any]) -> Iterator[Target]:
    footprint = results.get("footprint", {})
    for name, found in footprint.get("subscribed", {}).items():
        if name.startswith("gateway_"):
            what = f"{name}, {footprint['instruments'][name]} instruments subscribed"
            yield Target(requirement="N7", what=what, value=found["resident_mb"], bound=64, unit="MB")
    if "cold_start" in results:
        yield Target(
            requirement="N8",
            what="whole mesh ready, median",
            value=results["cold_start"]["median_s"],
            bound=5,
            unit="s",
        )


def compared(results: Mapping[str, Any], committed: Mapping[str, Any], tolerance: float = TOLERANCE) -> list[str]:
    """What got worse than the committed results allow: ratios between contenders, and memory. Never milliseconds.

    Memory, which hardly depends on what else the machine does, may grow by a tenth.
    """
    faults = []
    for venue, ratios in committed.get("submits", {}).get("ratios", {}).items():
        for name, old in ratios.items():
            new = results.get("submits", {}).get("ratios", {}).get(venue, {}).get(name)
            if "/" in name and new is not None and new["value"] > tolerance * old["value"]:
                faults.append(f"{venue}, {name}: {new['value']:.2f}, was {old['value']:.2f}")
    subscribed = results.get("footprint", {}).get("subscribed", {})
    for name, found in committed.get("footprint", {}).get("subscribed", {}).items():
        new_mb = subscribed.get(name, {}).get("own_mb", 0.0)
        if new_mb > 1.1 * found["own_mb"]:
            faults.append(f"{name}, own memory: {new_mb:.1f} MB, was {found['own_mb']:.1f} MB")
    return faults
