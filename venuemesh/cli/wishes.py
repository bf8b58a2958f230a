"""Where a command calls and how it answers. Light."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROUTER, AGGREGATOR = "127.0.0.1:50050", "127.0.0.1:50060"


class Output(StrEnum):
    """For whom the output is."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Where to call and how to answer.

    Args:
        router, aggregator: `host:port`.
        token_file: holds the caller's bearer token.
        ca: PEM file of the authority to trust; plain text without.
        cert, cert_key: PEM files that say who we are, where a service asks for a certificate.
        timeout: seconds for each call; None takes the contract's own.
    """

    router: str = ROUTER
    aggregator: str = AGGREGATOR
    token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None
    output: Output = Output.TABLE
    timeout: float | None = None
