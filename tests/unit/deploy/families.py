"""Metric families as the code makes them and as docs/metrics.md lists them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SERVICES = (
    "venuemesh",
    "hypercore",
    "gateway_hyperliquid",
    "gateway_tradexyz",
    "gateway_lighter",
    "router",
    "aggregator",
)
KINDS = ("counter", "gauge", "histogram")
ROW = re.compile(
    r"^\| `(?P<name>venuemesh_\w+)` \| (?P<kind>\w+) \|(?P<labels>[^|]*)\| (?P<meaning>[^|]+) \|$", re.MULTILINE
)
HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")


@dataclass(frozen=True, order=True)
class Family:
    """One metric: its name as exposed, without a histogram's parts."""

    name: str
    kind: str
    labels: tuple[str, ...]


def documented(text: str | None = None) -> list[Family]:
    """The rows of docs/metrics.md, or of a part of it."""
    text = (ROOT / "docs/metrics.md").read_text() if text is None else text
    return [
        Family(row["name"], row["kind"], tuple(label.strip() for label in row["labels"].split(",") if label.strip()))
        for row in ROW.finditer(text)
    ]


def made() -> list[Family]:
    """Every family that the services' code makes, found in its source."""
    found: list[Family] = []
    for package in SERVICES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "v1" not in path.parts and path != ROOT / "venuemesh/metrics.py":
                found += _made_in(ast.parse(path.read_text()), str(path.relative_to(ROOT)))
    return found


def _made_in(tree: ast.Module, where: str) -> Iterator[Family]:
    names = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in KINDS):
            continue
        receiver = ast.unparse(node.func.value)
        if "metrics" not in receiver:
            continue
        name, kind = node.args[0], node.func.attr
        assert isinstance(name, ast.Constant), f"{where}:{node.lineno}: a metric's name must be a literal"
        given = [*node.args[2:], *(word.value for word in node.keywords if word.arg == "labels")]
        labels = tuple(_words(given[0], names)) if given else ()
        total = "_total" if kind == "counter" else ""
        yield Family(f"venuemesh_{name.value}{total}", kind, labels)


def _words(node: ast.expr, names: dict[str, ast.expr]) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(word)):
            yield word
        case ast.Name(id=name):
            yield from _words(names[name], names)
        case ast.Starred(value=value):
            yield from _words(value, names)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from _words(part, names)
        case _:
            raise AssertionError(f"labels must be literals, not {ast.unparse(node)}")
