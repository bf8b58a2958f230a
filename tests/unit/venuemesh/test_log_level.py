"""One level for the whole process, for good or for a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from venuemesh.errors import InvalidRequest
from venuemesh.log_level import LogLevel
from venuemesh.v1.operations_service_pb2 import SetLogLevelRequest


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel("WARNING")
    yield logger
    logger.setLevel(before)


def wish(level: str, ms: int | None = None) -> SetLogLevelRequest:
    request = SetLogLevelRequest(level=level)
    if ms is not None:
        request.duration.FromMilliseconds(ms)
    return request


async def until_level(root: logging.Logger, level: int) -> None:
    async with asyncio.timeout(60):
        while root.level != level:
            await asyncio.sleep(0.001)


async def test_a_second_wish_for_a_time_goes_back_to_what_was_before_the_first(root: logging.Logger) -> None:
    """Else the level of an inquiry would last."""
    levels = LogLevel()
    assert levels.set(wish("DEBUG", 60_000)).previous_level == "WARNING"
    assert levels.set(wish("INFO", 1)).previous_level == "DEBUG"
    await until_level(root, logging.WARNING)


async def test_a_wish_for_good_ends_the_one_for_a_time(root: logging.Logger) -> None:
    """Nothing brings the former level back."""
    levels = LogLevel()
    levels.set(wish("DEBUG", 1))
    levels.set(wish("ERROR"))
    levels.set(wish("INFO", 1))
    await until_level(root, logging.ERROR)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (wish(""), "level"),
        (wish("debug"), "level"),
        (wish("DEBUG", 0), "duration"),
        (wish("DEBUG", -1), "duration"),
        (wish("DEBUG", 8 * 24 * 3_600_000), "duration"),
    ],
)
async def test_bad_wishes_change_nothing(root: logging.Logger, request_: SetLogLevelRequest, field: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidRequest) as caught:
        LogLevel().set(request_)
    assert caught.value.field == field
    assert root.level == logging.WARNING


async def test_a_level_of_the_settings_waits_for_the_end_of_one_for_a_time(root: logging.Logger) -> None:
    """An inquiry is not cut short, and what comes after it is what the settings say by then."""
    levels = LogLevel()
    levels.set(wish("DEBUG", 60_000))
    levels.configure("ERROR")
    assert root.level == logging.DEBUG
    levels.set(wish("INFO", 1))
    await until_level(root, logging.ERROR)


async def test_a_level_of_the_settings_replaces_one_that_was_set_for_good(root: logging.Logger) -> None:
    """At once: nobody named a time for it to stay."""
    levels = LogLevel()
    levels.set(wish("DEBUG", 60_000))
    levels.set(wish("DEBUG"))
    levels.configure("ERROR")
    assert root.level == logging.ERROR
