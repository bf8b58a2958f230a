"""Recorded answers of the venue, where they are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


def recorded(name: str) -> Any:
    """A recorded body; skips the test when the recordings are not there."""
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("VENUEMESH_FIXTURES", root.parent / "shared" / "fixtures"))
    path = folder / "hyperliquid" / name
    if not path.exists():
        pytest.skip(f"no recorded payload {name}")
    envelope = json.loads(path.read_text())
    return envelope.get("response", envelope.get("frame"))
