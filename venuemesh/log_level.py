"""The level of a service's log, changed while it runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from venuemesh.errors import InvalidRequest
from venuemesh.telemetry import set_log_level
from venuemesh.v1 import operations_service_pb2

log = logging.getLogger(__name__)

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


class LogLevel:
    """Changes the level of this process, and brings the former one back after a time where one is given."""

    def __init__(self) -> None:
        self._restore: asyncio.TimerHandle | None = None

    def set(self, request: operations_service_pb2.SetLogLevelRequest) -> operations_service_pb2.SetLogLevelResponse:
        """Do what the request says.

        Raises:
            InvalidRequest: there is no such level.
        """
        if request.level not in LEVELS:
            raise InvalidRequest(f"level: {request.level[:16]!r} is none of {', '.join(LEVELS)}", field="level")
        previous = logging.getLevelName(logging.getLogger().level)
        if self._restore is not None:
            self._restore.cancel()
            self._restore = None
        set_log_level(request.level)
        if request.HasField("duration"):
            after_s = request.duration.ToNanoseconds() / 1e9
            self._restore = asyncio.get_running_loop().call_later(after_s, set_log_level, previous)
        log.warning("log_level_set", extra={"level_set": request.level, "previous": previous})
        return operations_service_pb2.SetLogLevelResponse(previous_level=previous)
