"""The printed summary counts what was found, by kind."""

from __future__ import annotations

from tests.soak.run import Report
from tests.soak.summary import summary


def test_summary_tells_seed_kills_faults_and_violations_by_kind() -> None:
    """What a person reads first after a long run."""
    report = Report(seed=7)
    report.tally.kills["broker"] = 3
    report.tally.faults["lighter drop_reply"] = 2
    report.violations = [
        "7.1 round 2: lighter/north: LOST r1: meant to live, not open at the venue",
        "7.1 round 2: lighter/north: DUPLICATE r2: 2 orders at work under one client id",
        "7.1 round 2: lighter/north: r3: still in doubt, UNCERTAIN",
        "7.1 round 2: WRONG CLAIM r4: first live, repeated UNKNOWN",
    ]
    told = summary(report, minutes=1.0)
    assert "soak: seed 7, 1.0 minutes" in told
    assert "5 kills and faults: 3 kills" in told
    assert "violations: 4 (1 lost, 1 duplicate, 1 wrong claim, 0 stream)" in told
    assert report.violations[0] in told
