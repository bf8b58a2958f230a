"""Text that must never be printed: a type that shows `***`, and how to read it from a mounted file. Pure.

Not pydantic's `SecretStr`: that one pickles its value, and this one also refuses to be joined, sliced or
interpolated by accident, because it is no string.
"""

from __future__ import annotations

import hmac
import logging
import stat
from pathlib import Path
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

log = logging.getLogger(__name__)

MASK = "***"
MAX_SECRET_BYTES = 64 * 1024


class SecretError(Exception):
    """A secret cannot be read; the text names the file and the rule, never the content."""


class Secret:
    """A text that prints as `***` in every rendering; `reveal()` is the one way to the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: only where it is used, such as in signing."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: read it again where it is needed")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic: built from a string, dumped as `***`."""
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def _validate(cls, value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str):
            raise ValueError("must be text")  # noqa: TRY004 - pydantic reports ValueError only
        return cls(value)


def read_secret(path: Path) -> Secret:
    """Read a mounted secret: the whole file without the white space around it.

    Logs a warning when others than the owner's group may read the file or the group may write it; a
    mounted Kubernetes secret with an fsGroup is group-readable by design.

    Raises:
        SecretError: missing, unreadable, empty, over 64 KiB, or not UTF-8 text.
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SecretError(f"secret file {path}: {error.strerror}") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise SecretError(f"secret file {path}: larger than {MAX_SECRET_BYTES} bytes")
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise SecretError(f"secret file {path}: not UTF-8 text") from None
    if not text:
        raise SecretError(f"secret file {path}: empty")
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        log.warning("secret_file_permissions_wide", extra={"path": str(path), "mode": stat.filemode(mode)})
    return Secret(text)
