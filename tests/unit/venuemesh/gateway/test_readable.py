"""Whose fault a number is that cannot be carried."""

from __future__ import annotations

from decimal import Decimal

import pytest

from venuemesh.errors import ProtocolViolation
from venuemesh.gateway.readable import readable
from venuemesh.money import format_decimal


@pytest.mark.parametrize("amount", ["1e60", "1e9999999"])
def test_impossible_numbers_are_violations_of_the_venue(amount: str) -> None:
    """A number no wire of ours can carry does not end the process."""
    with pytest.raises(ProtocolViolation, match="cannot read a position") as violation, readable("a position"):
        format_decimal(Decimal(amount))
    assert violation.value.metadata["what"] == "a position"


def test_other_faults_are_ours() -> None:
    """A missing key is no word of the venue's."""
    with pytest.raises(KeyError), readable("a position"):
        raise KeyError("ours")
