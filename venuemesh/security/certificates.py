"""TLS of servers and channels, from files that may be replaced while the process runs.

A server reads a new pair at the next handshake; connections that stand are left alone. A channel takes its files once,
so `venuemesh.channels` opens a new one when they change.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from venuemesh.clock import Clock
from venuemesh.security.files import FileWatch

log = logging.getLogger(__name__)


class CertificateError(Exception):
    """A certificate or key file cannot be used; the text names the file and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFiles:
    """PEM files of a server; with `client_ca_file` every caller must show a certificate signed by it."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for path in (self.cert_file, self.key_file, self.client_ca_file) if path is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFiles:
    """PEM files of a channel: whom to trust, and with `cert_file` and `key_file` who we are."""

    ca_file: Path
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for path in (self.ca_file, self.cert_file, self.key_file) if path is not None)

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials of the files as they are now.

        Raises:
            CertificateError: a file cannot be read, or certificate and key are no pair.
        """
        pair: tuple[bytes | None, bytes | None] = (None, None)
        if self.cert_file is not None and self.key_file is not None:
            pair = _read_pair(self.cert_file, self.key_file)
        return grpc.ssl_channel_credentials(_read(self.ca_file), pair[0], pair[1])


def server_credentials(files: ServerFiles, clock: Clock) -> grpc.ServerCredentials:
    """Credentials that follow the files.

    A pair that is half replaced, or a file that cannot be read, leaves the ones in force, with a warning.

    Raises:
        CertificateError: the files cannot be used at the start.
    """
    watch = FileWatch(files.paths, clock, check_s=0.0)  # handshakes are rare, and each must meet the present files

    def renewed() -> Any:
        """Called by gRPC at every handshake, from a thread of its own; None keeps what is in force."""
        if not watch.changed():
            return None
        try:
            configuration = _configuration(files)
        except CertificateError as error:
            log.warning("certificate_unusable", extra={"detail": str(error), "policy": "the old one stays"})
            return None
        log.info("certificate_read", extra={"path": str(files.cert_file)})
        return configuration

    return grpc.dynamic_ssl_server_credentials(
        _configuration(files), renewed, require_client_authentication=files.client_ca_file is not None
    )


def _configuration(files: ServerFiles) -> Any:
    key, certificate = _read_pair(files.cert_file, files.key_file)
    roots = None if files.client_ca_file is None else _read(files.client_ca_file)
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=roots)


def _read_pair(cert_file: Path, key_file: Path) -> tuple[bytes, bytes]:
    """Key and certificate chain, once they are known to belong together."""
    pair = (_read(key_file), _read(cert_file))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file)
    except (ssl.SSLError, OSError, ValueError):
        raise CertificateError(f"TLS files {cert_file} and {key_file}: no certificate with its key") from None
    return pair


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"TLS file {path}: {error.strerror}") from None
