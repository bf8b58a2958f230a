"""Settings of a running service: read again when asked, compared, and taken over where that is safe.

What is in force is one settings object. A part that can take other values while it runs says so with `allow`; every
other key that differs is named and left for the next start. All that runs between reading and taking over is
synchronous, so no call sees half of a change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from venuemesh.errors import ConfigurationInvalid
from venuemesh.log_level import LogLevel
from venuemesh.settings import Fault, ServiceSettings, SettingPath, SettingsError, fault_of
from venuemesh.v1 import operations_service_pb2

log = logging.getLogger(__name__)

S = TypeVar("S", bound=ServiceSettings)

Commit = Callable[[], None]
"""Puts values that were checked in force. Must not fail, or a change would be taken over by half."""

LOG_LEVEL = "TELEMETRY__LOG_LEVEL"
MAX_TOLD = 24
"""Faults that ride in the details of a refusal; the log has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What came of reading the settings again; keys without the service's prefix, in order, never values.

    Args:
        changed: in force now.
        restart: differ from what is in force, and need a restart.
    """

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rule(Generic[S]):
    """Keys or groups of keys, and how other values of them come into force."""

    keys: tuple[str, ...]
    prepare: Callable[[S], Commit]

    def covers(self, key: str) -> bool:
        return any(_covers(one, key) for one in self.keys)


class Configuration(Generic[S]):
    """The settings in force, and the level of the log, which every service can change while it runs.

    Args:
        settings: what the service was started with.
        read: reads file and environment as at the start, raising `SettingsError`; None where nothing can change.
    """

    def __init__(self, settings: S, read: Callable[[], S] | None = None) -> None:
        self.current = settings
        self.level = LogLevel()
        self._read = read
        self._rules: list[_Rule[S]] = []
        self.allow([LOG_LEVEL], lambda taken: partial(self.level.configure, taken.telemetry.log_level))

    @property
    def reloadable(self) -> tuple[str, ...]:
        """Every key that can change while the service runs."""
        return tuple(key for key in sorted(map(key_of, dict(self.current.leaves()))) if self._rule(key) is not None)

    def allow(self, keys: Iterable[str], prepare: Callable[[S], Commit]) -> None:
        """Let these keys change at run time.

        Args:
            keys: keys, or groups that stand for all their keys (`LINKS`).
            prepare: called with the settings to come if any of the keys changed. Makes all that can fail, raising
                ValueError, and changes nothing yet: the rest is done by what it returns, once every part agreed.
        Raises:
            ValueError: there is no such key, or it is allowed already.
        """
        rule = _Rule(tuple(keys), prepare)
        known = [key_of(path) for path, _ in self.current.leaves()]
        for wanted in rule.keys:
            covered = [key for key in known if _covers(wanted, key)]
            if not covered or any(self._rule(key) is not None for key in covered):
                raise ValueError(f"{wanted}: no setting of this service, or allowed already")
        self._rules.append(rule)

    def reload(self) -> Reloaded:
        """Read again, take over what may change, and tell the rest; one log line either way.

        Raises:
            SettingsError: the settings cannot be used, or not together with those that need a restart; what was in
                force still is.
        """
        try:
            told = self._take_over()
        except SettingsError as error:
            log.warning("configuration_refused", extra={"faults": [str(fault) for fault in error.faults]})
            raise
        # As for a level that was set: whoever reads only warnings should see that the service changed.
        level = logging.WARNING if told.changed or told.restart else logging.INFO
        log.log(level, "configuration_reloaded", extra={"changed": told.changed, "restart": told.restart})
        return told

    def on_hangup(self) -> None:
        """`reload` for a signal, which has nobody to tell but the log."""
        try:
            self.reload()
        except SettingsError:
            return

    def answer(self) -> operations_service_pb2.ReloadConfigurationResponse:
        """`reload` for a caller.

        Raises:
            ConfigurationInvalid: names every key with rule and value, as far as a status has room.
        """
        try:
            told = self.reload()
        except SettingsError as error:
            faults = {f"fault_{number}": str(fault) for number, fault in enumerate(error.faults[:MAX_TOLD], 1)}
            raise ConfigurationInvalid(str(error), metadata=faults) from None
        return operations_service_pb2.ReloadConfigurationResponse(changed_keys=told.changed, restart_keys=told.restart)

    def _take_over(self) -> Reloaded:
        if self._read is None:
            return Reloaded()
        wanted = self._read()
        paths = differing(self.current, wanted)
        changed = {path for path in paths if self._rule(key_of(path)) is not None}
        told = Reloaded(
            changed=tuple(sorted(map(key_of, changed))), restart=tuple(sorted(map(key_of, paths - changed)))
        )
        if changed:
            taken = mixed(self.current, wanted, changed)
            for commit in self._prepared(taken, told.changed):
                commit()
            self.current = taken
        return told

    def _prepared(self, taken: S, changed: Collection[str]) -> list[Commit]:
        commits: list[Commit] = []
        faults: list[Fault] = []
        for rule in self._rules:
            touched = [key for key in changed if rule.covers(key)]
            if touched:
                try:
                    commits.append(rule.prepare(taken))
                except ValueError as error:
                    faults.append(Fault(key=", ".join(touched), rule=str(error)))
        if faults:
            raise SettingsError(faults)
        return commits

    def _rule(self, key: str) -> _Rule[S] | None:
        return next((rule for rule in self._rules if rule.covers(key)), None)


def _covers(wanted: str, key: str) -> bool:
    """Whether `wanted` is the key or a group that it is in."""
    return key == wanted or key.startswith(f"{wanted}__")


def key_of(path: SettingPath) -> str:
    """The key of a setting without the service's prefix, such as `TELEMETRY__LOG_LEVEL`."""
    return "__".join(path).upper()


def differing(one: ServiceSettings, other: ServiceSettings) -> set[SettingPath]:
    """Paths of the settings whose values differ; a list, such as the accounts, is one setting."""
    before, after = dict(one.leaves()), dict(other.leaves())
    missing = object()
    return {path for path in before.keys() | after.keys() if before.get(path, missing) != after.get(path, missing)}


def mixed(current: S, wanted: S, paths: Collection[SettingPath]) -> S:
    """`current` with the values of `wanted` at `paths`, checked as a whole.

    Raises:
        SettingsError: the rules of settings that depend on each other forbid the mixture.
    """
    try:
        return type(current).model_validate(_values(current, wanted, paths))
    except ValidationError as error:
        faults = []
        for detail in error.errors(include_url=False):
            fault = fault_of(detail, {}, None)
            key = key_of(tuple(str(part) for part in detail["loc"])) or "settings"
            rule = f"{fault.rule}, beside the values that need a restart to change"
            faults.append(Fault(key=key, rule=rule, value=fault.value))
        raise SettingsError(faults) from None


def _values(current: BaseModel, wanted: BaseModel, paths: Collection[SettingPath]) -> dict[str, Any]:
    """Fields by name. Groups that stay as they are are handed on as they are: nothing has to survive a serializer."""
    values = {name: getattr(current, name) for name in type(current).model_fields}
    for name in {path[0] for path in paths}:
        below = [path[1:] for path in paths if path[0] == name]
        whole = () in below
        values[name] = getattr(wanted, name) if whole else _values(getattr(current, name), getattr(wanted, name), below)
    return values
