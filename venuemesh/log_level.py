"""The level of a service's log, changed while it runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from venuemesh.errors import InvalidRequest, Reason
from venuemesh.telemetry import set_log_level
from venuemesh.v1 import operations_service_pb2

log = logging.getLogger(__name__)

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
MAX_LEVEL_S: Final = 7 * 24 * 3_600.0


class LogLevel:
    """Changes the level of this process; for a time where one is given, and then back to what it was before that."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._lasting = ""
        """The level to go back to while a timer runs: a later wish for a time does not make the earlier one last."""

    def set(self, request: operations_service_pb2.SetLogLevelRequest) -> operations_service_pb2.SetLogLevelResponse:
        """Do what the request says.

        Raises:
            InvalidRequest: there is no such level, or the time is no time or longer than a week.
        """
        after_s = request.duration.ToNanoseconds() / 1e9
        _check(request, after_s)
        previous = logging.getLevelName(logging.getLogger().level)
        if self._timer is None:
            self._lasting = previous
        else:
            self._timer.cancel()
            self._timer = None
        set_log_level(request.level)
        if request.HasField("duration"):
            self._timer = asyncio.get_running_loop().call_later(after_s, self._go_back)
        log.warning("log_level_set", extra={"level_set": request.level, "previous": previous, "for_s": after_s})
        return operations_service_pb2.SetLogLevelResponse(previous_level=previous)

    def configure(self, level: str) -> None:
        """The settings say another level now. One that was set for a time stays until then; one for good does not."""
        if self._timer is None:
            set_log_level(level)
        else:
            self._lasting = level

    def _go_back(self) -> None:
        self._timer = None
        set_log_level(self._lasting)


def _check(request: operations_service_pb2.SetLogLevelRequest, after_s: float) -> None:
    if not request.level:
        raise InvalidRequest("level: is required", reason=Reason.REQUIRED_FIELD_MISSING, field="level")
    if request.level not in LEVELS:
        raise InvalidRequest(f"level: {request.level[:16]!r} is none of {', '.join(LEVELS)}", field="level")
    if request.HasField("duration") and not 0 < after_s <= MAX_LEVEL_S:
        raise InvalidRequest(
            f"duration: must be more than 0 and at most {MAX_LEVEL_S:g}s, is {after_s:g}s", field="duration"
        )
