"""Names of the metrics that the code makes, read from its sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from venuemesh.metrics import PREFIX

ROOT = Path(__file__).parents[4]
PACKAGES = (
    "venuemesh",
    "hypercore",
    "gateway_hyperliquid",
    "gateway_tradexyz",
    "gateway_lighter",
    "router",
    "aggregator",
)
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def exposed_names() -> set[str]:
    """As Prometheus sees them."""
    return {name for package in PACKAGES for file in (ROOT / package).rglob("*.py") for name in _names(file)}


def _names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SUFFIXES:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                for suffix in SUFFIXES[node.func.attr]:
                    yield f"{PREFIX}{first.value}{suffix}"
