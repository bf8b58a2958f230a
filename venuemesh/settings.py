"""Environment and file to frozen, typed settings; every bad key reported at once.

A service subclasses `ServiceSettings` with its own `env_prefix` and sections. A key is the path of a field
in capitals with `__` between levels: `VENUEMESH_ROUTER_GRPC__PORT=7000`. The same path is a TOML table in
the file that `--config` or `<PREFIX>CONFIG` names; the environment wins. A list is separated by commas.
A key that no field has is an error, so a misspelt one cannot be ignored in silence.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import annotated_types
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from venuemesh.limits import CallLimits
from venuemesh.secrets import MASK, Secret
from venuemesh.security.certificates import ChannelFiles, ServerFiles
from venuemesh.security.grants import SCOPES
from venuemesh.subjects import AUDIT_DAYS, AUDIT_MAX_BYTES, DAY_S

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]
"""0 lets the system choose; the bound port is logged and returned."""

MIN_KEEPALIVE_S = 10.0
_SHOWN = 80
_SECRET_WORDS = ("secret", "password", "private_key", "api_key", "mnemonic", "token")


def _split_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


Peers = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split_commas), annotated_types.MinLen(1)]
"""A list, written with commas in the environment."""

SettingPath = tuple[str, ...]
"""Where a setting is: `("telemetry", "log_level")`."""


class Section(BaseModel):
    """Base of every group of settings: frozen, and closed to keys it does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class NatsSettings(Section):
    """Where JetStream is and how much it keeps."""

    urls: Names = ("nats://127.0.0.1:4222",)
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    storage: Literal["file", "memory"] = "file"
    event_retention_s: NotNegative = 0.0
    """How long account events are kept; 0 keeps them for ever. The portfolio is rebuilt from the first event, so a
    bound loses what positions realized before it. The journal of keys is kept for ever in any case."""
    audit_retention_s: NotNegative = AUDIT_DAYS * DAY_S
    """How long requests to venues and their answers are kept: 30 days; 0 keeps them until `audit_max_bytes`."""
    audit_max_bytes: Annotated[int, Field(ge=1024**2)] = AUDIT_MAX_BYTES
    """Most the audit trail may take at the broker: 1 GiB; beyond it the oldest entries go."""
    connect_timeout_s: Positive = 5.0
    credentials_file: Path | None = None
    ca_file: Path | None = None
    """Whom to trust at a `tls://` address; the system's authorities without it."""
    cert_file: Path | None = None
    key_file: Path | None = None
    """Who we are, where the broker asks for a certificate."""

    @field_validator("key_file")
    @classmethod
    def _whole(cls, key_file: Path | None, info: Any) -> Path | None:
        if (key_file is None) != (info.data.get("cert_file") is None):
            raise ValueError("needs both cert_file and key_file, or neither")
        return key_file

    @field_validator("urls")
    @classmethod
    def _no_user_in_url(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not url.startswith(("nats://", "tls://", "ws://", "wss://")):
                raise ValueError("must be nats://, tls://, ws:// or wss:// URLs")
            if "@" in url:
                raise ValueError("must carry no user or password; use credentials_file")
        return urls


class GrpcSettings(Section):
    """The gRPC server of a service; the files come before `host`, whose rule reads them."""

    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    """With it every caller must show a certificate signed by it."""
    token_keys_file: Path | None = None
    """Keys that callers' tokens are sealed with; see `venuemesh.security.tokens.read_keys`."""
    peers: Peers = ()
    """What services may do by the name in their certificates: `router=read+trade,aggregator=read`."""
    host: str = "127.0.0.1"
    port: Port = 0
    probe_host: str = "127.0.0.1"
    """Where `probe_port` binds; may be wider than loopback, since it tells nothing but health."""
    probe_port: Port | None = None
    """Serves grpc.health.v1 alone, in plain text, for probes that can show no certificate; closed without it."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=64 * 1024**2)] = 4 * 1024**2
    calls_per_second: Positive = 2_000.0
    """Of one caller, that is one address: a router is one caller of a gateway, and so is all of loopback."""
    call_burst: Annotated[int, Field(ge=1)] = 4_000
    failed_authentications: Annotated[int, Field(ge=1)] = 20
    """Wrong tokens of one caller at once; one more is allowed each second."""
    streams_per_peer: Annotated[int, Field(ge=1)] = 1_500
    streams_total: Annotated[int, Field(ge=1)] = 2_000
    max_concurrent_streams: Annotated[int, Field(ge=1)] = 2_000
    """HTTP/2 streams of one connection; beyond it calls wait in the client without a word."""
    default_deadline_s: Positive = 10.0
    """Bound of a unary call whose client set no deadline."""
    keepalive_min_s: Annotated[float, Field(ge=MIN_KEEPALIVE_S)] = MIN_KEEPALIVE_S
    """Client pings closer together than this are answered with GOAWAY."""
    drain_pause_s: NotNegative = 2.0
    """Between NOT_SERVING and the end of streams, while load balancers take the endpoint out."""
    drain_grace_s: Positive = 10.0
    """For streams to say goodbye, and again for calls to finish."""

    @field_validator("host")
    @classmethod
    def _safe_binding(cls, host: str, info: Any) -> str:
        refusal = binding_refusal(
            host,
            tls_cert_file=info.data.get("tls_cert_file"),
            tls_key_file=info.data.get("tls_key_file"),
            token_keys_file=info.data.get("token_keys_file"),
        )
        if refusal is not None:
            raise ValueError(refusal)
        return host

    @field_validator("max_concurrent_streams")
    @classmethod
    def _above_stream_bounds(cls, streams: int, info: Any) -> int:
        bounds = [info.data[name] for name in ("streams_per_peer", "streams_total") if name in info.data]
        if bounds and streams <= min(bounds):
            raise ValueError(
                f"must be above {min(bounds)}, the bound on open streams, so that callers over it are told"
            )
        return streams

    @field_validator("peers")
    @classmethod
    def _known_scopes(cls, peers: tuple[str, ...], info: Any) -> tuple[str, ...]:
        for peer in peers:
            name, _, scopes = peer.partition("=")
            if not name or not scopes or not set(scopes.split("+")) <= set(SCOPES):
                raise ValueError(f"must be `name=scope+scope`, scopes of {', '.join(SCOPES)}")
        if peers and info.data.get("tls_client_ca_file") is None:
            raise ValueError("needs tls_client_ca_file: a name counts only in a certificate that was verified")
        return peers

    @property
    def peer_scopes(self) -> dict[str, frozenset[int]]:
        """`peers` as the authority takes them."""
        pairs = (peer.partition("=") for peer in self.peers)
        return {name: frozenset(SCOPES[scope] for scope in scopes.split("+")) for name, _, scopes in pairs}

    @property
    def tls_files(self) -> ServerFiles | None:
        """Files of the server's certificate; None for plain text."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return ServerFiles(
            cert_file=self.tls_cert_file, key_file=self.tls_key_file, client_ca_file=self.tls_client_ca_file
        )

    @property
    def call_limits(self) -> CallLimits:
        """The bounds as the server's interceptor takes them."""
        return CallLimits(
            calls_per_second=self.calls_per_second,
            call_burst=self.call_burst,
            streams_per_peer=self.streams_per_peer,
            streams_total=self.streams_total,
            failed_identifications=self.failed_authentications,
        )


class OutgoingSettings(Section):
    """How other services of the mesh are called."""

    ca_file: Path | None = None
    """Whom to trust; plain text without it."""
    cert_file: Path | None = None
    key_file: Path | None = None
    """Who we are, where the other side asks for a certificate."""
    token_file: Path | None = None
    """Bearer token for calls that are not made on behalf of a caller with one."""

    @field_validator("key_file")
    @classmethod
    def _whole(cls, key_file: Path | None, info: Any) -> Path | None:
        if (key_file is None) != (info.data.get("cert_file") is None):
            raise ValueError("needs both cert_file and key_file, or neither")
        if key_file is not None and info.data.get("ca_file") is None:
            raise ValueError("needs ca_file: a certificate is shown over TLS only")
        return key_file

    @property
    def tls(self) -> ChannelFiles | None:
        """Files of a channel; None for plain text."""
        if self.ca_file is None:
            return None
        return ChannelFiles(ca_file=self.ca_file, cert_file=self.cert_file, key_file=self.key_file)


class MetricsSettings(Section):
    """Prometheus exposition: plain HTTP on loopback, mutual TLS wherever it binds with the three files."""

    enabled: bool = True
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    """Who may read: whoever shows a certificate signed by it."""
    host: str = "127.0.0.1"
    port: Port = 0

    @field_validator("host")
    @classmethod
    def _safe_binding(cls, host: str, info: Any) -> str:
        names = ("tls_cert_file", "tls_key_file", "tls_client_ca_file")
        missing = [name for name in names if info.data.get(name) is None]
        if 0 < len(missing) < len(names):
            raise ValueError(f"needs {', '.join(names)} all together, or none")
        if missing and not is_loopback(host):
            raise ValueError(f"is wider than loopback, which needs mutual TLS: set {', '.join(missing)}")
        return host

    @property
    def tls_files(self) -> ServerFiles | None:
        """Files of the endpoint's certificate and readers; None for plain text."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return ServerFiles(
            cert_file=self.tls_cert_file, key_file=self.tls_key_file, client_ca_file=self.tls_client_ca_file
        )


class TelemetrySettings(Section):
    """Logs and traces."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "text"] = "auto"
    """`auto` is text on a terminal and JSON elsewhere."""
    otlp_endpoint: str | None = None
    """URL of an OTLP/HTTP collector, such as "http://127.0.0.1:4318/v1/traces"; without it no span is exported."""


class ServiceSettings(Section):
    """Base of a service's settings.

    `env_prefix` must end in `_` and be no prefix of another service's, or each would refuse the other's keys.
    """

    env_prefix: ClassVar[str] = "VENUEMESH_"

    nats: NatsSettings = Field(default_factory=NatsSettings)
    grpc: GrpcSettings = Field(default_factory=GrpcSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, config: Path | None = None) -> Self:
        """Read file and environment and check everything.

        Args:
            environ: the process's own when None.
            config: a TOML file; `<PREFIX>CONFIG` names it when None.
        Raises:
            SettingsError: lists every fault found, each with its key.
        """
        environ = os.environ if environ is None else environ
        prefix = cls.env_prefix
        config_key = f"{prefix}CONFIG"
        if config is None and environ.get(config_key):
            config = Path(environ[config_key])
        values = _read_toml(config) if config is not None else {}
        origins: dict[SettingPath, str] = {}
        faults: list[Fault] = []
        for key in sorted(environ):
            if key.startswith(prefix) and key != config_key:
                path = tuple(key[len(prefix) :].lower().split("__"))
                origins[path] = key
                if not _set_path(values, path, environ[key]):
                    faults.append(Fault(key=key, rule="is a group of settings here and a value elsewhere"))
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            faults += [fault_of(detail, origins, config) for detail in error.errors(include_url=False)]
        if faults:
            raise SettingsError(faults)
        return settings

    def leaves(self) -> Iterator[tuple[SettingPath, Any]]:
        """Every setting that is no group, with its value, which may be secret."""
        yield from _leaves(self, ())

    def describe(self) -> dict[str, str]:
        """Every setting by its key, ready to print: secrets and passwords show `***`."""
        return {self.env_prefix + "__".join(path).upper(): _printed(path, value) for path, value in self.leaves()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One bad key.

    Args:
        key: as the operator wrote it.
        rule: what it breaks.
        value: what it holds, shortened; `***` where it may be a secret; None when there is none.
    """

    key: str
    rule: str
    value: str | None = None

    def __str__(self) -> str:
        return f"{self.key}: {self.rule}" + ("" if self.value is None else f" (got {self.value})")


class SettingsError(Exception):
    """The settings do not allow a start; the text lists every fault, one a line."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(faults)
        count = "1 setting is" if len(faults) == 1 else f"{len(faults)} settings are"
        super().__init__("\n".join([f"{count} wrong:", *(f"  {fault}" for fault in faults)]))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to `host`: a loopback address or a Unix socket."""
    if host == "localhost" or host.startswith(("unix:", "unix-abstract:")):
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def binding_refusal(
    host: str, *, tls_cert_file: Path | None, tls_key_file: Path | None, token_keys_file: Path | None
) -> str | None:
    """Why a server must not bind to `host`; None when it may. Wider than loopback takes TLS and a token."""
    if (tls_cert_file is None) != (tls_key_file is None):
        return "needs both tls_cert_file and tls_key_file, or neither"
    if is_loopback(host):
        return None
    needed = {"tls_cert_file": tls_cert_file, "tls_key_file": tls_key_file, "token_keys_file": token_keys_file}
    missing = [name for name, value in needed.items() if value is None]
    if not missing:
        return None
    return f"is wider than loopback, which needs TLS and a token: set {', '.join(missing)}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not valid TOML"
        raise SettingsError([Fault(key=f"--config {path}", rule=str(reason))]) from None


def _set_path(values: dict[str, Any], path: tuple[str, ...], text: str) -> bool:
    """Put `text` at `path`; False when a part of the path already holds a value instead of a group."""
    group: Any = values
    for part in path[:-1]:
        group = group.setdefault(part, {})
        if not isinstance(group, dict):
            return False
    if isinstance(group.get(path[-1]), dict):
        return False
    group[path[-1]] = text
    return True


def fault_of(detail: ErrorDetails, origins: Mapping[SettingPath, str], config: Path | None) -> Fault:
    """What a rule that was broken says to an operator.

    Args:
        origins: keys of the environment by path.
        config: the file that every other setting is from.
    """
    path = tuple(str(part) for part in detail["loc"])
    # A location can be longer than the key: an element of a list, a branch of a union.
    origin = next((origins[path[:size]] for size in range(len(path), 0, -1) if path[:size] in origins), None)
    key = origin or (f"{config}: {'.'.join(path)}" if config else ".".join(path))
    match detail["type"]:
        case "missing":
            return Fault(key=key, rule="is required")
        case "extra_forbidden":
            # The value of a misspelt key may be a secret, so it is not shown.
            return Fault(key=key, rule="is no setting of this service")
    rule = detail["msg"].removeprefix("Value error, ")
    return Fault(key=key, rule=rule[:1].lower() + rule[1:], value=_shown(path, detail["input"]))


def _shown(path: tuple[str, ...], value: object) -> str:
    if isinstance(value, Secret | Mapping) or _is_secret_name(path):
        return MASK
    text = repr(value)
    # A URL can carry a password; nothing before an @ is shown.
    text = f"'{MASK}@{text.rpartition('@')[2]}" if "@" in text else text
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_secret_name(path: tuple[str, ...]) -> bool:
    names = [part.lower() for part in path]
    return any(word in name and not name.endswith("_file") for name in names for word in _SECRET_WORDS)


def _leaves(section: BaseModel, above: SettingPath) -> Iterator[tuple[SettingPath, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _printed(path: SettingPath, value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if value is None:
        return ""
    return MASK if _is_secret_name(path[-1:]) else str(value)
