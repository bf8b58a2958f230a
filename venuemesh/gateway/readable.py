"""The line between a venue's fault and ours, where its words become numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from venuemesh.errors import ProtocolViolation


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Numbers that no wire of ours can carry are the venue's fault, not ours.

    Raises:
        ProtocolViolation: instead of the arithmetic or value error inside.
    """
    try:
        yield
    except (ArithmeticError, ValueError) as cause:
        raise ProtocolViolation(f"cannot read {what}: {cause}", metadata={"what": what}) from cause
