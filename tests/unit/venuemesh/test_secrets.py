"""A secret prints as `***` whatever prints it; files are read with bounds."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from venuemesh.secrets import MAX_SECRET_BYTES, Secret, SecretError, read_secret

VALUE = "0xdeadbeefcafe"


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    key: Secret


class Model(BaseModel):
    key: Secret


@pytest.mark.parametrize(
    "render",
    [
        str,
        repr,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>20}",
        lambda secret: format(secret, ">40"),
        lambda secret: "%s" % secret,  # noqa: UP031
        lambda secret: "{}".format(secret),  # noqa: UP032
        lambda secret: str([secret, {"key": secret}]),
        lambda secret: str(Account("a", secret)),
        lambda secret: str(asdict(Account("a", secret))),
        lambda secret: json.dumps({"key": secret}, default=str),
        lambda secret: Model(key=secret).model_dump_json(),
        lambda secret: str(Model(key=secret).model_dump()),
        lambda secret: repr(Model(key=secret)),
        lambda secret: repr(copy.deepcopy(secret)),
        lambda secret: str(dir(secret)),
    ],
)
def test_secret_when_rendered_shows_no_value(render: Callable[[Secret], str]) -> None:
    """Every way a secret meets a log line, a dump or an error text."""
    assert VALUE not in render(Secret(VALUE))


def test_secret_when_pickled_refuses() -> None:
    """A secret must not travel into files or other processes."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(VALUE))


def test_secret_when_dumped_as_json_without_default_refuses() -> None:
    """It is no string, so the encoder does not take it for one."""
    with pytest.raises(TypeError):
        json.dumps(Secret(VALUE))


def test_secret_when_in_a_traceback_shows_no_value() -> None:
    """Also with the local variables printed."""
    try:
        key = Secret(VALUE)
        raise RuntimeError(f"cannot sign with {key}")
    except RuntimeError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert VALUE not in text


def test_secret_when_compared_is_equal_by_value() -> None:
    """Settings that hold one can be compared and hashed."""
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1
    assert not Secret("")


def test_secret_when_a_model_gets_a_string_wraps_it() -> None:
    """From settings to the typed value, and back only through `reveal`."""
    assert Model.model_validate({"key": VALUE}).key.reveal() == VALUE


def test_read_secret_when_file_is_private_gives_the_trimmed_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Editors add a newline; keys have none."""
    path = tmp_path / "key"
    path.write_text(f"{VALUE}\n")
    path.chmod(0o440)
    assert read_secret(path).reveal() == VALUE
    assert not caplog.records


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604])
def test_read_secret_when_others_can_read_it_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int) -> None:
    """A warning, because mounts in clusters are not always ours to change; it names no content."""
    path = tmp_path / "key"
    path.write_text(VALUE)
    path.chmod(mode)
    read_secret(path)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "secret_file_permissions_wide")
    assert VALUE not in caplog.text


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * (MAX_SECRET_BYTES + 1), "larger than"),
    ],
)
def test_read_secret_when_file_is_unusable_says_why_without_content(
    tmp_path: Path, content: bytes | None, rule: str
) -> None:
    """The error names the file and the rule."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o400)
    with pytest.raises(SecretError, match=rule) as caught:
        read_secret(path)
    assert str(path) in str(caught.value)
