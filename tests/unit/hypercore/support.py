"""Where the recorded payloads are, and their walk."""

from __future__ import annotations

import json
from typing import Any

from tests import recordings

FIXTURES = recordings.recordings("hyperliquid")
needs_recordings = recordings.needs_recordings("hyperliquid")


def recording_names() -> list[str]:
    """File names of all recordings, sorted; empty when the folder is absent."""
    return sorted(path.name for path in FIXTURES.glob("*.json")) if FIXTURES.is_dir() else []


def recording(name: str) -> dict[str, Any]:
    """One recording's envelope."""
    loaded: dict[str, Any] = json.loads((FIXTURES / name).read_text())
    return loaded


def body(name: str) -> bytes:
    """The recorded body as bytes."""
    envelope = recording(name)
    return json.dumps(envelope["frame"] if "frame" in envelope else envelope["response"]).encode()
