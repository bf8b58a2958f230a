"""Settings from environment and file: all faults at once, nothing secret shown, safe binding."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from venuemesh.secrets import Secret
from venuemesh.settings import (
    GrpcSettings,
    OutgoingSettings,
    Section,
    ServiceSettings,
    SettingsError,
    binding_refusal,
    is_loopback,
)


class VenueSettings(Section):
    base_url: str
    api_key: Secret = Secret("")
    api_key_file: Path | None = None
    symbols: tuple[str, ...] = ()


class ExampleSettings(ServiceSettings):
    env_prefix: ClassVar[str] = "VENUEMESH_EXAMPLE_"

    venue: VenueSettings = Field(default_factory=lambda: VenueSettings(base_url="http://127.0.0.1:1"))


def faults(environ: dict[str, str], config: Path | None = None) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        ExampleSettings.load(environ, config)
    return {fault.key: str(fault) for fault in caught.value.faults}


def test_load_when_environment_is_empty_gives_loopback_defaults() -> None:
    """A service starts without a single variable, reachable from this machine only."""
    settings = ExampleSettings.load({})
    assert (settings.grpc.host, settings.metrics.host) == ("127.0.0.1", "127.0.0.1")
    assert settings.grpc.max_message_bytes == 4 * 1024**2


def test_load_when_keys_are_set_reads_nested_values_and_lists() -> None:
    """Levels are separated by two underscores, list elements by commas."""
    settings = ExampleSettings.load(
        {
            "VENUEMESH_EXAMPLE_GRPC__PORT": "7001",
            "VENUEMESH_EXAMPLE_NATS__URLS": "nats://a:4222, nats://b:4222",
            "VENUEMESH_EXAMPLE_METRICS__ENABLED": "false",
            "VENUEMESH_EXAMPLE_TELEMETRY__LOG_LEVEL": "DEBUG",
            "VENUEMESH_OTHER_GRPC__PORT": "not ours",
            "PATH": "/bin",
        }
    )
    assert settings.grpc.port == 7001
    assert settings.nats.urls == ("nats://a:4222", "nats://b:4222")
    assert not settings.metrics.enabled
    assert settings.telemetry.log_level == "DEBUG"


def test_load_when_file_and_environment_disagree_the_environment_wins(tmp_path: Path) -> None:
    """The file holds the usual values, a variable changes one of them for a day."""
    path = tmp_path / "example.toml"
    path.write_text('[grpc]\nport = 1\ncall_burst = 7\n[nats]\nurls = ["nats://file:1"]\n')
    settings = ExampleSettings.load({"VENUEMESH_EXAMPLE_CONFIG": str(path), "VENUEMESH_EXAMPLE_GRPC__PORT": "2"})
    assert (settings.grpc.port, settings.grpc.call_burst, settings.nats.urls) == (2, 7, ("nats://file:1",))


def test_load_when_many_keys_are_wrong_reports_each_once() -> None:
    """One start shows everything there is to mend: values, unknown keys, binding, together."""
    found = faults(
        {
            "VENUEMESH_EXAMPLE_GRPC__PORT": "70000",
            "VENUEMESH_EXAMPLE_GRPC__HOST": "0.0.0.0",
            "VENUEMESH_EXAMPLE_GRPC__KEEPALIVE_MIN_S": "1",
            "VENUEMESH_EXAMPLE_NATS__STORAGE": "tape",
            "VENUEMESH_EXAMPLE_NATS__URLS": "http://x",
            "VENUEMESH_EXAMPLE_METRICS__HOST": "10.0.0.1",
            "VENUEMESH_EXAMPLE_TELEMETRY__LOG_LEVEL": "LOUD",
            "VENUEMESH_EXAMPLE_GRPC__PROT": "1",
            "VENUEMESH_EXAMPLE_TYPO": "1",
            "VENUEMESH_EXAMPLE_GRPC__DRAIN_GRACE_S": "nan",
        }
    )
    prefix = "VENUEMESH_EXAMPLE_"
    keys = ("GRPC__PORT", "GRPC__HOST", "GRPC__KEEPALIVE_MIN_S", "GRPC__PROT", "GRPC__DRAIN_GRACE_S", "TYPO")
    keys += ("NATS__STORAGE", "NATS__URLS", "METRICS__HOST", "TELEMETRY__LOG_LEVEL")
    assert set(found) == {prefix + key for key in keys}
    assert "65535" in found[prefix + "GRPC__PORT"]
    assert "got '70000'" in found[prefix + "GRPC__PORT"]
    assert "is no setting" in found[prefix + "TYPO"]
    assert "needs TLS and a token" in found[prefix + "GRPC__HOST"]


def test_load_when_a_group_gets_a_plain_value_says_so() -> None:
    """`GRPC=1` beside `GRPC__PORT=1` is a mistake, whatever the order."""
    found = faults({"VENUEMESH_EXAMPLE_GRPC": "1", "VENUEMESH_EXAMPLE_GRPC__PORT": "1"})
    assert "VENUEMESH_EXAMPLE_GRPC__PORT" in found


def test_load_when_file_has_a_bad_key_names_file_and_path(tmp_path: Path) -> None:
    """A file fault points into the file."""
    path = tmp_path / "example.toml"
    path.write_text('[grpc]\nport = "x"\nnope = 1\n')
    assert set(faults({}, path)) == {f"{path}: grpc.port", f"{path}: grpc.nope"}


@pytest.mark.parametrize(("text", "rule"), [(None, "No such file"), ("[grpc", "not valid TOML")])
def test_load_when_file_cannot_be_read_says_why(tmp_path: Path, text: str | None, rule: str) -> None:
    """A missing or broken file is a fault like any other."""
    path = tmp_path / "example.toml"
    if text is not None:
        path.write_text(text)
    assert rule in next(iter(faults({}, path).values()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("VENUE__API_KEY", "topsecret"),
        ("VENUE__APIKEY", "topsecret"),
        ("NATS__URLS", "nats://user:topsecret@host:4222"),
        ("NATS__URLS", "nats://topsecret@host:4222"),
        ("GRPC__TOKEN", "topsecret"),
    ],
)
def test_load_when_a_secret_is_involved_shows_no_part_of_it(key: str, value: str) -> None:
    """Faults of any key never print what may be a secret, nor does the exception chain."""
    environ = {f"VENUEMESH_EXAMPLE_{key}": value, "VENUEMESH_EXAMPLE_VENUE__BASE_URL": "x", "VENUEMESH_EXAMPLE_X": "1"}
    with pytest.raises(SettingsError) as caught:
        ExampleSettings.load(environ)
    assert "topsecret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_describe_when_secrets_are_set_prints_stars() -> None:
    """Every setting once, by the key that sets it."""
    described = ExampleSettings.load(
        {
            "VENUEMESH_EXAMPLE_VENUE__BASE_URL": "http://v",
            "VENUEMESH_EXAMPLE_VENUE__API_KEY": "topsecret",
            "VENUEMESH_EXAMPLE_VENUE__API_KEY_FILE": "/run/key",
        }
    ).describe()
    assert described["VENUEMESH_EXAMPLE_VENUE__API_KEY"] == "***"
    assert described["VENUEMESH_EXAMPLE_VENUE__API_KEY_FILE"] == "/run/key"
    assert described["VENUEMESH_EXAMPLE_NATS__URLS"] == "nats://127.0.0.1:4222"
    assert "topsecret" not in str(described)


def test_settings_when_changed_refuse() -> None:
    """Settings are values."""
    with pytest.raises(ValidationError):
        ExampleSettings.load({}).grpc.port = 1  # type: ignore[misc]


# --- binding ---

CERT, KEY, TOKEN = Path("c"), Path("k"), Path("t")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "unix:/run/x"])
def test_binding_when_loopback_needs_nothing(host: str) -> None:
    """Only this machine can connect."""
    assert is_loopback(host)
    assert binding_refusal(host, tls_cert_file=None, tls_key_file=None, token_keys_file=None) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "10.1.2.3", "localhost.example", "", "*", "127.0.0.1.nip"])
@given(given=st.sets(st.sampled_from(["tls_cert_file", "tls_key_file", "token_keys_file"])))
def test_binding_when_wider_needs_tls_and_token(host: str, given: set[str]) -> None:
    """Any part missing refuses the start; all three allow it."""
    files = {
        name: Path(name) if name in given else None for name in ("tls_cert_file", "tls_key_file", "token_keys_file")
    }
    refusal = binding_refusal(host, **files)
    assert (refusal is None) is (len(given) == 3)


def test_binding_when_wide_names_what_is_missing() -> None:
    """The operator reads what to set."""
    refusal = binding_refusal("0.0.0.0", tls_cert_file=CERT, tls_key_file=KEY, token_keys_file=None)
    assert refusal is not None
    assert "token_keys_file" in refusal
    assert "tls_cert_file" not in refusal


def test_binding_when_tls_is_half_set_refuses_even_on_loopback() -> None:
    """A certificate without its key is a mistake, not plain text."""
    with pytest.raises(ValidationError, match="both tls_cert_file and tls_key_file"):
        GrpcSettings(tls_cert_file=CERT)


def test_binding_when_complete_is_accepted() -> None:
    """Wide, with everything it takes."""
    wide = GrpcSettings(host="0.0.0.0", tls_cert_file=CERT, tls_key_file=KEY, token_keys_file=TOKEN)
    assert wide.host == "0.0.0.0"


def test_peers_without_a_client_ca_are_refused() -> None:
    """A name counts only in a certificate that was verified."""
    with pytest.raises(ValidationError, match="needs tls_client_ca_file"):
        GrpcSettings(peers=("router=read",))


@pytest.mark.parametrize("peer", ["router", "router=", "=read", "router=admin", "router=read+"])
def test_peers_with_an_unknown_scope_are_refused(peer: str) -> None:
    """A misspelt scope must not silently grant nothing."""
    with pytest.raises(ValidationError, match="name=scope"):
        GrpcSettings(tls_client_ca_file=CERT, peers=(peer,))


def test_peers_are_read_from_the_environment() -> None:
    """`name=scope+scope`, separated by commas."""
    settings = GrpcSettings.model_validate({"tls_client_ca_file": "ca", "peers": "router=read+trade,aggregator=read"})
    assert settings.peer_scopes == {"router": frozenset({1, 2}), "aggregator": frozenset({1})}


@pytest.mark.parametrize("given", [{"cert_file": CERT}, {"key_file": KEY}, {"cert_file": CERT, "key_file": KEY}])
def test_outgoing_certificate_when_incomplete_is_refused(given: dict[str, Path]) -> None:
    """Half a pair, or a pair with nobody to trust."""
    with pytest.raises(ValidationError):
        OutgoingSettings(**given)


def test_stream_bounds_when_http2_allows_fewer_streams_refuse() -> None:
    """Calls beyond the connection's own bound would wait in the client without an answer."""
    with pytest.raises(ValidationError, match="must be above 100"):
        GrpcSettings(streams_per_peer=100, max_concurrent_streams=100)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_metrics_with_a_part_of_the_tls_files_are_refused(host: str) -> None:
    """Half a set is a mistake wherever it binds; wide without any names what is missing."""
    key = "VENUEMESH_EXAMPLE_METRICS__"
    found = faults({f"{key}HOST": host, f"{key}TLS_CERT_FILE": "/x.pem"})
    assert "all together" in found[f"{key}HOST"]


def test_metrics_wider_than_loopback_with_all_tls_files_are_allowed() -> None:
    """Mutual TLS is what a wide binding of the metrics takes."""
    names = ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE")
    settings = ExampleSettings.load(
        {f"VENUEMESH_EXAMPLE_METRICS__{name}": f"/{name}" for name in names}
        | {"VENUEMESH_EXAMPLE_METRICS__HOST": "0.0.0.0"}
    )
    assert settings.metrics.tls_files is not None
    assert len(settings.metrics.tls_files.paths) == 3
