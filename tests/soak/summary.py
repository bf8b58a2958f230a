"""The summary of a run, for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.soak.run import Report

SHOWN_VIOLATIONS = 30
WIDTH = 34


def summary(report: Report, *, minutes: float) -> str:
    """Everything a run did and found."""
    return "\n".join(_lines(report, minutes))


def _lines(report: Report, minutes: float) -> Iterator[str]:
    yield f"soak: seed {report.seed}, {minutes:.1f} minutes, {report.meshes} meshes, {report.rounds} comparisons"
    yield f"  {report.tally.total} kills and faults: {report.tally.kills.total()} kills,"
    yield f"    {report.tally.faults.total()} faults of venue and broker"
    yield from _table("kills", report.tally.kills)
    yield from _table("faults that struck", report.tally.faults)
    yield from _table("answers to clients", report.answers)
    yield from _table("orders by last status", report.outcomes)
    yield from _table(
        "seen",
        Counter(
            {
                "orders": report.orders,
                "orders at the venues": report.venue_orders,
                "fills": report.fills,
                "events stored": report.events,
                "streams opened by followers": report.connections,
                "gateways drained with exit code 0": report.drained,
                "starts that failed and were repeated": report.failed_starts,
            }
        ),
    )
    yield f"  longest until all agreed: {report.settled_s:.1f} s"
    words = ("LOST", "DUPLICATE", "WRONG CLAIM", "STREAM")
    found = ", ".join(f"{report.count(word)} {word.lower()}" for word in words)
    yield f"  violations: {len(report.violations)} ({found})"
    yield from (f"    {text}" for text in report.violations[:SHOWN_VIOLATIONS])


def _table(title: str, counts: Counter[str]) -> Iterator[str]:
    yield f"  {title}: {counts.total()}" if title != "seen" else "  seen:"
    for name, count in sorted(counts.items(), key=lambda row: (-row[1], row[0])):
        if count:
            yield f"    {name:<{WIDTH}} {count}"


__all__ = ["summary"]
