"""Quotas as trailing metadata: every limiter, cheap, and in keys that gRPC takes."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from tests.fakes import ManualClock
from venuemesh.gateway.quota_trailers import MAX_AGE_S, MAX_ROWS, QuotaTrailers, trailer_of
from venuemesh.v1 import operations_pb2


def row(limiter: str = "ip_weight", **fields: object) -> operations_pb2.Quota:
    """A limiter with a hundred units."""
    return operations_pb2.Quota(limiter=limiter, limit=100, remaining=60, **fields)  # type: ignore[arg-type]


def test_trailer_names_the_limiter_and_its_numbers() -> None:
    """One key per limiter."""
    found = trailer_of(row(reserved_for_cancels=10, reset_after=Duration(seconds=2, nanos=500_000_000)))
    assert found == (
        "x-venuemesh-quota-ip_weight",
        "limit=100,remaining=60,reserved_for_cancels=10,reset_ms=2500",
    )
    assert trailer_of(row())[1].endswith("reset_ms=0")


def test_trailer_of_a_limiter_with_odd_characters_has_a_key_grpc_takes() -> None:
    """Lower case letters, digits, underscore, point and dash."""
    assert trailer_of(row("Address.My Acc/1"))[0] == "x-venuemesh-quota-address.my_acc_1"


def test_trailers_are_made_at_most_every_100_ms() -> None:
    """A busy gateway does not count its limiters for every answer."""
    clock, asked = ManualClock(), 0

    def quotas() -> list[operations_pb2.Quota]:
        nonlocal asked
        asked += 1
        return [row(f"l{asked}")]

    trailers = QuotaTrailers(quotas, clock)
    assert trailers() is trailers()
    assert asked == 1
    clock.advance(MAX_AGE_S)
    assert trailers()[0][0] == "x-venuemesh-quota-l2"


def test_trailers_of_many_limiters_are_bounded() -> None:
    """Metadata has a bound; GetQuota has the rest."""
    trailers = QuotaTrailers(lambda: [row(f"l{n}") for n in range(100)], ManualClock())
    assert len(trailers()) == MAX_ROWS
