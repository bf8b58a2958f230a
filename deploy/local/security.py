"""Certificates, token keys and a token for a local mesh that runs with TLS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from venuemesh.clock import Clock
from venuemesh.secrets import Secret, read_secret
from venuemesh.security.__main__ import add_key, mint_from
from venuemesh.security.certificates import ChannelFiles
from venuemesh.security.local_certificates import replace_file, write_certificates

HOSTS = ("localhost", "127.0.0.1")
OPERATOR = "operator"
"""Who may call a gateway directly, beside the router and the aggregator."""
CLIENT = "client"
"""May connect to a gateway and needs a token there."""
PEERS = "router=read+trade+risk+operate,aggregator=read,operator=read+trade+risk+operate"
"""What the services' certificates allow at a gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSecurity:
    """Where the files are."""

    certificates: Path
    keys_file: Path
    token_file: Path

    @classmethod
    def make(cls, folder: Path, services: Sequence[str], clock: Clock) -> LocalSecurity:
        """Write everything anew below `folder`: a root, a certificate a service, a key, and a token of all scopes."""
        made = cls(
            certificates=folder / "tls",
            keys_file=folder / "secrets" / "token.keys",
            token_file=folder / "secrets" / "client.token",
        )
        made.keys_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made.renew_certificates(services, clock)
        made.keys_file.unlink(missing_ok=True)
        add_key(made.keys_file, "local")
        token = mint_from(made.keys_file, "local", ["scopes=read,trade,risk,operate"])
        replace_file(made.token_file, token.reveal().encode(), mode=0o600)
        return made

    def renew_certificates(self, services: Sequence[str], clock: Clock) -> None:
        """Another root and other certificates in the place of those that are there."""
        now = datetime.fromtimestamp(clock.now_ns() / 1e9, UTC)
        write_certificates(self.certificates, (*services, OPERATOR, CLIENT), HOSTS, now)

    @property
    def token(self) -> Secret:
        """The token of all scopes."""
        return read_secret(self.token_file)

    @property
    def channel(self) -> ChannelFiles:
        """What the operator's channels use; gateways ask for a certificate."""
        return self.channel_files(OPERATOR)

    def server_settings(self, prefix: str, service: str, *, only_peers: bool) -> dict[str, str]:
        """Settings of a service's server.

        Args:
            only_peers: whether every caller must show a certificate, as at a gateway.
        """
        files = self.channel_files(service)
        settings = {
            f"{prefix}GRPC__TLS_CERT_FILE": str(files.cert_file),
            f"{prefix}GRPC__TLS_KEY_FILE": str(files.key_file),
            f"{prefix}GRPC__TOKEN_KEYS_FILE": str(self.keys_file),
        }
        if only_peers:
            settings[f"{prefix}GRPC__TLS_CLIENT_CA_FILE"] = str(files.ca_file)
            settings[f"{prefix}GRPC__PEERS"] = PEERS
        return settings

    def outgoing_settings(self, prefix: str, service: str) -> Mapping[str, str]:
        """Settings of the channels that a service opens, below `prefix`."""
        files = self.channel_files(service)
        return {
            f"{prefix}CA_FILE": str(files.ca_file),
            f"{prefix}CERT_FILE": str(files.cert_file),
            f"{prefix}KEY_FILE": str(files.key_file),
        }

    def channel_files(self, name: str) -> ChannelFiles:
        """What the channels of one holder of a certificate use."""
        return ChannelFiles(
            ca_file=self.certificates / "ca.pem",
            cert_file=self.certificates / f"{name}.pem",
            key_file=self.certificates / f"{name}.key",
        )
