"""Where recorded venue payloads lie, and how tests that need them are skipped where they do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def recordings(venue: str) -> Path:
    """Folder of one venue's recordings: `VENUEMESH_FIXTURES`, or `../shared/fixtures` beside the repository."""
    return (ROOT / os.environ.get("VENUEMESH_FIXTURES", "../shared/fixtures") / venue).resolve()


def needs_recordings(venue: str) -> pytest.MarkDecorator:
    """Skips a test where the venue's recordings are not at hand."""
    return pytest.mark.skipif(
        not recordings(venue).is_dir(), reason="no recorded payloads: set VENUEMESH_FIXTURES to their folder"
    )
