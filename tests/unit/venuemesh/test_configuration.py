"""Settings read again: what differs, what is taken over, all or nothing, and nothing secret shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from venuemesh.configuration import Configuration, Reloaded, differing, key_of
from venuemesh.errors import ConfigurationInvalid
from venuemesh.secrets import Secret
from venuemesh.settings import Section, ServiceSettings, SettingsError
from venuemesh.v1.operations_service_pb2 import SetLogLevelRequest

HIDDEN = "hunter2-and-more"


class Inner(Section):
    low: int = 1
    high: int = 9


class VenueSettings(Section):
    name: str = "sim"
    api_key: Secret = Secret("k")
    names: tuple[str, ...] = ()
    inner: Inner = Inner()


class ExampleSettings(ServiceSettings):
    env_prefix: ClassVar[str] = "VENUEMESH_EXAMPLE_"

    venue: VenueSettings = Field(default_factory=VenueSettings)
    retries: int = 0


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel("INFO")
    yield logger
    logger.setLevel(before)


class File:
    """A file of settings, and a service that was started with it."""

    def __init__(self, path: Path, text: str = "", environ: dict[str, str] | None = None) -> None:
        self.path = path
        self.write(text)
        environ = {"VENUEMESH_EXAMPLE_CONFIG": str(path), **(environ or {})}
        read = partial(ExampleSettings.load, environ)
        self.configuration = Configuration(read(), read)
        self.seen: list[ExampleSettings] = []

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def allow(self, *keys: str) -> None:
        """Let them change; what came into force is in `seen`."""
        self.configuration.allow(keys, lambda taken: partial(self.seen.append, taken))

    def refused(self) -> dict[str, str]:
        """Faults of a reload by key."""
        with pytest.raises(SettingsError) as caught:
            self.configuration.reload()
        return {fault.key: str(fault) for fault in caught.value.faults}


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "example.toml")


# --- what differs ---

small = st.integers(0, 2)
examples = st.builds(
    ExampleSettings,
    venue=st.builds(
        VenueSettings,
        name=st.sampled_from(["sim", "other"]),
        names=st.lists(st.sampled_from("ab"), max_size=2).map(tuple),
        inner=st.builds(Inner, low=small, high=small),
    ),
    retries=small,
)


@given(one=examples, other=examples)
def test_differing_names_exactly_the_settings_whose_values_differ(one: ExampleSettings, other: ExampleSettings) -> None:
    """As a person finds them who compares the two printed lists; none for the same settings."""
    printed, others = one.describe(), other.describe()
    assert {one.env_prefix + key_of(path) for path in differing(one, other)} == {
        key for key in printed if printed[key] != others[key]
    }
    assert not differing(one, one) and differing(one, other) == differing(other, one)


@given(
    one=examples,
    other=examples,
    allowed=st.sets(st.sampled_from(["VENUE__INNER", "VENUE__NAME", "VENUE__NAMES", "RETRIES"])),
)
def test_reload_takes_over_what_is_allowed_and_tells_the_rest_each_time(
    one: ExampleSettings, other: ExampleSettings, allowed: set[str]
) -> None:
    """Together they are what differed; afterwards only the rest does, and all is as it was read for the allowed."""
    configuration = Configuration(one, lambda: other)
    if allowed:
        configuration.allow(sorted(allowed), lambda taken: lambda: None)
    told = configuration.reload()
    assert {*told.changed, *told.restart} == {key_of(path) for path in differing(one, other)}
    assert not set(told.changed) & set(told.restart) and set(told.changed) <= set(configuration.reloadable)
    assert {key_of(path) for path in differing(configuration.current, other)} == set(told.restart)
    assert configuration.reload() == Reloaded(restart=told.restart)


# --- what is taken over ---


def test_reload_when_the_file_changed_applies_groups_and_keys_once(file: File) -> None:
    """One part is told once however many of its keys changed, with the whole settings that are in force then."""
    file.allow("VENUE__INNER", "RETRIES")
    file.write("retries = 2\n[venue.inner]\nlow = 3\nhigh = 4\n")
    assert file.configuration.reload() == Reloaded(changed=("RETRIES", "VENUE__INNER__HIGH", "VENUE__INNER__LOW"))
    assert file.seen == [file.configuration.current]
    assert (file.seen[0].retries, file.seen[0].venue.inner) == (2, Inner(low=3, high=4))
    assert file.configuration.reload() == Reloaded()
    assert len(file.seen) == 1


def test_reload_when_a_key_needs_a_restart_says_so_each_time_and_leaves_it(file: File) -> None:
    """Nothing is passed over in silence, and nothing that was not taken over shows as in force."""
    file.allow("RETRIES")
    file.write('retries = 1\n[grpc]\nport = 7\n[venue]\nname = "other"\n')
    restart = ("GRPC__PORT", "VENUE__NAME")
    assert file.configuration.reload() == Reloaded(changed=("RETRIES",), restart=restart)
    assert file.configuration.reload() == Reloaded(restart=restart)
    assert (file.configuration.current.grpc.port, file.configuration.current.venue.name) == (0, "sim")
    file.write("retries = 1\n")
    assert file.configuration.reload() == Reloaded()


def test_reload_when_the_environment_has_the_key_changes_nothing(tmp_path: Path) -> None:
    """It wins at the start, so it wins now."""
    file = File(tmp_path / "example.toml", environ={"VENUEMESH_EXAMPLE_RETRIES": "5"})
    file.allow("RETRIES")
    file.write("retries = 2\n")
    assert file.configuration.reload() == Reloaded()
    assert file.configuration.current.retries == 5


def test_reload_without_anything_to_read_changes_nothing() -> None:
    """As in tests, and where a service is built by hand."""
    assert Configuration(ServiceSettings()).reload() == Reloaded()


def test_allow_when_the_key_is_misspelt_or_taken_refuses() -> None:
    """A rule that never comes into force would be a promise that is not kept."""
    configuration = Configuration(ExampleSettings())
    never: Callable[[Any], Any] = lambda taken: lambda: None  # noqa: E731 - a rule is a function of this shape
    for wrong in ("VENUE__INNER__LOWER", "RETRY", "TELEMETRY__LOG_LEVEL", "TELEMETRY"):
        with pytest.raises(ValueError, match=wrong):
            configuration.allow([wrong], never)
    configuration.allow(["VENUE__INNER"], never)
    with pytest.raises(ValueError, match="VENUE__INNER__LOW"):
        configuration.allow(["VENUE__INNER__LOW"], never)
    assert configuration.reloadable == ("TELEMETRY__LOG_LEVEL", "VENUE__INNER__HIGH", "VENUE__INNER__LOW")


# --- all or nothing ---


def test_reload_when_one_part_refuses_applies_none(file: File, root: logging.Logger) -> None:
    """Every part is asked before the first one changes; each refusal is told."""

    def refuse(_: ExampleSettings) -> Callable[[], None]:
        raise ValueError("not while it is raining")

    file.allow("VENUE__NAME")
    file.configuration.allow(["RETRIES"], refuse)
    file.configuration.allow(["VENUE__INNER"], refuse)
    file.write('retries = 1\n[telemetry]\nlog_level = "ERROR"\n[venue]\nname = "other"\ninner = {low = 0, high = 0}\n')
    before = file.configuration.current
    assert file.refused() == {
        "RETRIES": "RETRIES: not while it is raining",
        "VENUE__INNER__HIGH, VENUE__INNER__LOW": "VENUE__INNER__HIGH, VENUE__INNER__LOW: not while it is raining",
    }
    assert file.configuration.current is before and not file.seen and root.level == logging.INFO


def test_reload_when_a_value_does_not_fit_one_that_needs_a_restart_applies_none(file: File) -> None:
    """The file is right as a whole; the mixture of new and old is not, and its rule is named."""
    file.allow("GRPC__STREAMS_PER_PEER", "GRPC__STREAMS_TOTAL")
    file.write("[grpc]\nstreams_per_peer = 5000\nstreams_total = 5000\nmax_concurrent_streams = 9000\n")
    found = file.refused()["GRPC__MAX_CONCURRENT_STREAMS"]
    assert "must be above 5000" in found and "need a restart" in found and "(got 2000)" in found
    assert not file.seen
    file.write("[grpc]\nstreams_per_peer = 500\nstreams_total = 5000\nmax_concurrent_streams = 9000\n")
    assert file.configuration.reload().restart == ("GRPC__MAX_CONCURRENT_STREAMS",)


def test_reload_when_the_file_is_bad_names_every_fault_and_changes_nothing(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    """As at the start: all at once, each with rule and value, in the error, in the log and for the caller."""
    file.allow("RETRIES")
    file.write("retries = 1\nspeling = 2\n[grpc]\nport = 70000\n[venue.inner]\nlow = 'x'\n")
    before = file.configuration.current
    found = file.refused()
    assert {key.rpartition(": ")[2] for key in found} == {"speling", "grpc.port", "venue.inner.low"}
    assert "(got 70000)" in found[f"{file.path}: grpc.port"]
    with pytest.raises(ConfigurationInvalid) as caught:
        file.configuration.answer()
    assert sorted(caught.value.metadata.values()) == sorted(found.values())
    assert [one.__dict__["faults"] for one in caplog.records] == [list(found.values())] * 2
    assert file.configuration.current is before and not file.seen


@pytest.mark.parametrize("text", [None, "retries = ", "\udcff"])
def test_reload_when_the_file_is_gone_or_no_toml_names_it(file: File, text: str | None) -> None:
    """The usual slip of somebody who edits in place."""
    file.allow("RETRIES")
    if text is None:
        file.path.unlink()
    else:
        file.path.write_bytes(text.encode(errors="surrogateescape"))
    assert list(file.refused()) == [f"--config {file.path}"]
    file.write("retries = 3\n")
    assert file.configuration.reload().changed == ("RETRIES",)


def test_nothing_secret_is_shown_when_it_changes_or_is_wrong(file: File, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the answer, not in an error, not in the log."""
    caplog.set_level(logging.DEBUG)
    file.write(f'[venue]\napi_key = "{HIDDEN}"\nname = "{HIDDEN}"\n')
    assert file.configuration.reload().restart == ("VENUE__API_KEY", "VENUE__NAME")
    file.allow("VENUE__API_KEY")
    assert file.configuration.answer().changed_keys == ["VENUE__API_KEY"]
    assert file.seen[0].venue.api_key.reveal() == HIDDEN
    file.write(f'[venue]\napi_key = ["{HIDDEN}"]\nname = 5\npasword = "{HIDDEN}"\n')
    with pytest.raises(ConfigurationInvalid) as caught:
        file.configuration.answer()
    told = caught.value.message + repr(caught.value.metadata)
    assert "venue.api_key" in told and "***" in told and "venue.pasword" in told
    assert HIDDEN not in told + repr([one.__dict__ for one in caplog.records])


# --- told ---


def test_a_signal_reloads_and_a_bad_file_only_reaches_the_log(file: File, caplog: pytest.LogCaptureFixture) -> None:
    """There is nobody to raise to; the keys are in the line."""
    caplog.set_level(logging.INFO)
    file.allow("RETRIES")
    file.write("retries = 1\n[grpc]\nport = 1\n")
    file.configuration.on_hangup()
    file.write("retries = 'x'\n")
    file.configuration.on_hangup()
    file.write("retries = 1\n")
    file.configuration.on_hangup()
    lines = [(one.message, one.levelname) for one in caplog.records]
    assert lines == [
        ("configuration_reloaded", "WARNING"),
        ("configuration_refused", "WARNING"),
        ("configuration_reloaded", "INFO"),
    ]
    first = caplog.records[0].__dict__
    assert (first["changed"], first["restart"]) == (("RETRIES",), ("GRPC__PORT",))
    assert file.configuration.current.retries == 1


# --- the level of the log ---


def level(wanted: str, ms: int | None = None) -> SetLogLevelRequest:
    request = SetLogLevelRequest(level=wanted)
    if ms is not None:
        request.duration.FromMilliseconds(ms)
    return request


def test_level_of_the_file_takes_the_place_of_one_that_was_set_for_good(file: File, root: logging.Logger) -> None:
    """The later word counts; while the file says nothing new, the level that was set stays."""
    file.configuration.level.set(level("DEBUG"))
    assert file.configuration.reload() == Reloaded()
    assert root.level == logging.DEBUG
    file.write('[telemetry]\nlog_level = "ERROR"\n')
    assert file.configuration.reload().changed == ("TELEMETRY__LOG_LEVEL",)
    assert root.level == logging.ERROR
