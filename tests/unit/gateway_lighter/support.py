"""Where the recorded payloads are, throw-away keys, and orders to sign."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway_lighter.schnorr import PrivateKey
from gateway_lighter.signing import PureSigner
from gateway_lighter.transactions import CreateOrder

_REPO = Path(__file__).resolve().parents[3]
FIXTURES = (_REPO / os.environ.get("VENUEMESH_FIXTURES", "../shared/fixtures") / "lighter").resolve()

needs_recordings = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="no recorded payloads: set VENUEMESH_FIXTURES to their folder"
)

CHAIN = 304
ACCOUNT = 4242
API_KEY = 4
SECRET = "5a" * 39 + "01"
KEY = PrivateKey(SECRET)
SIGNER = PureSigner(KEY, chain_id=CHAIN, account_index=ACCOUNT, api_key_index=API_KEY)
EXPIRY_MS = 1_893_456_000_000
ORDER = CreateOrder(
    market_index=1, client_order_index=7, base_amount=250, price=1_123_450, is_ask=False, order_expiry=EXPIRY_MS
)


def recording_names(prefix: str) -> list[str]:
    """File names of the recordings that begin so, sorted; empty when the folder is absent."""
    return sorted(path.name for path in FIXTURES.glob(f"{prefix}*.json")) if FIXTURES.is_dir() else []


def recording(name: str) -> Any:
    """One recording."""
    return json.loads((FIXTURES / name).read_text())


def vectors(name: str) -> Any:
    """The `vectors` of a signing recording; an empty mapping when the folder is absent, for parametrizing."""
    return recording(f"signing_{name}.json")["vectors"] if FIXTURES.is_dir() else {}


def encode(value: Any) -> bytes:
    """JSON bytes."""
    return json.dumps(value).encode()
