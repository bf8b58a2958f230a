"""The operator's own checks, found by import path at the start: a router without one of them must not run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from router.risk import RiskCheck


class CheckNotFound(Exception):
    """A check that the settings name cannot be made; says which and why."""


def load_checks(paths: Sequence[str]) -> list[RiskCheck]:
    """Make each check by its factory.

    Args:
        paths: `package.module:name`; `name` is called without arguments, so a class will do.
    Raises:
        CheckNotFound: one cannot be imported or made, or is no check.
    """
    return [_load(path) for path in paths]


def _load(path: str) -> RiskCheck:
    module, separator, name = path.partition(":")
    if not separator or not module or not name:
        raise CheckNotFound(f"risk.checks: {path!r} must be package.module:name")
    try:
        made: RiskCheck = getattr(importlib.import_module(module), name)()
    except Exception as error:
        raise CheckNotFound(f"risk.checks: {path}: {type(error).__name__}: {error}") from error
    if not isinstance(getattr(made, "name", None), str) or not callable(getattr(made, "check", None)):
        raise CheckNotFound(f"risk.checks: {path} makes no check: it needs `name` and `check(order, view)`")
    return made
