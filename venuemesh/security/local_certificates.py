"""A certificate authority and certificates for one machine: for trying out TLS, not for production."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from venuemesh.security.authority import TRUST_DOMAIN

DEFAULT_VALIDITY = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class LocalAuthority:
    """The root that a folder's certificates are signed by; its key never leaves the process unless written."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, now: datetime, validity: timedelta = DEFAULT_VALIDITY) -> LocalAuthority:
        """A new root. Args: now: aware, UTC."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "venuemesh local root")])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + validity)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def issue(self, service: str, hosts: Sequence[str], now: datetime, validity: timedelta) -> tuple[bytes, bytes]:
        """Certificate and key, PEM, of a service reachable under `hosts` (names or addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, service)])
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"{TRUST_DOMAIN}{service}")]
        names += [_general_name(host) for host in hosts]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            x509.CertificateBuilder(self.certificate.subject, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + validity)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _pem(certificate), _key_pem(key)


def write_certificates(
    folder: Path,
    services: Sequence[str],
    hosts: Sequence[str],
    now: datetime,
    validity: timedelta = DEFAULT_VALIDITY,
) -> None:
    """Write `ca.pem`, and `<service>.pem` with `<service>.key` for each; keys are readable by their owner only.

    Each file is replaced in one step. Services that run meanwhile read the new ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = LocalAuthority.create(now, validity)
    replace_file(folder / "ca.pem", _pem(authority.certificate))
    for service in services:
        certificate, key = authority.issue(service, hosts, now, validity)
        replace_file(folder / f"{service}.key", key, mode=0o600)
        replace_file(folder / f"{service}.pem", certificate)


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    part.replace(path)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
