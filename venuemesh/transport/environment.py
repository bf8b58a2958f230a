"""Which hosts a venue link may reach: simulator, testnet and mainnet never mix. Pure.

A link is given its environment and the venue's hosts; every URL passes `HostGuard.check` before a socket
is opened. What is not on the list of the link's own environment is refused, whatever it looks like.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar
from urllib.parse import urlsplit

from venuemesh.errors import ErrorClass, MeshError

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_TLS_SCHEMES = frozenset({"https", "wss"})
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@%]+)(:[0-9]+)?")
_VISIBLE_ASCII = re.compile(r"[!-~]+")


class Environment(StrEnum):
    """Where a link trades; money is real only on MAINNET."""

    SIMULATOR = "simulator"
    TESTNET = "testnet"
    MAINNET = "mainnet"


class EnvironmentViolation(MeshError):
    """The configured URL lies outside the link's environment; no socket was opened."""

    error_class: ClassVar[ErrorClass] = ErrorClass.FATAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A checked URL, rebuilt from its parsed parts so that no second parser can read it differently."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @property
    def origin(self) -> str:
        """`scheme://host:port`, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL in canonical form."""
        return self.origin + self.path + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGuard:
    """Refuses every URL outside one environment.

    Args:
        environment: the link's own.
        testnet_hosts, mainnet_hosts: the venue's hosts, `name` (port 443 only) or `name:port`.
        allow_mainnet: the explicit opt-in without which MAINNET refuses everything.
    Raises:
        ValueError: a host stands on both lists or is not a plain host name.
    """

    environment: Environment
    testnet_hosts: frozenset[str] = frozenset()
    mainnet_hosts: frozenset[str] = frozenset()
    allow_mainnet: bool = False

    def __post_init__(self) -> None:
        testnet = {_split_entry(entry)[0] for entry in self.testnet_hosts}
        mainnet = {_split_entry(entry)[0] for entry in self.mainnet_hosts}
        if both := sorted(testnet & mainnet):
            raise ValueError(f"hosts listed for testnet and mainnet: {', '.join(both)}")

    def check(self, url: str) -> Target:
        """Parse `url` (http, https, ws or wss) and return it in canonical form.

        SIMULATOR reaches loopback only (`localhost`, 127.0.0.0/8, ::1), with or without TLS. TESTNET and
        MAINNET reach their own listed hosts only, with TLS only; MAINNET also needs `allow_mainnet`.

        Raises:
            EnvironmentViolation: the URL is malformed, carries user-info, or leaves the environment.
        """
        target = _parse(url)
        if self.environment is Environment.SIMULATOR:
            if not _is_loopback(target.host):
                raise _refused(f"simulator links reach loopback hosts only, not {target.host!r}")
            return target
        if self.environment is Environment.MAINNET and not self.allow_mainnet:
            raise _refused("mainnet needs the explicit opt-in allow_mainnet")
        own = self.mainnet_hosts if self.environment is Environment.MAINNET else self.testnet_hosts
        if (target.host, target.port) not in {_split_entry(entry) for entry in own}:
            where = f"{target.host}:{target.port}"
            raise _refused(f"{where} is not on the list of {self.environment} hosts")
        if target.scheme not in _TLS_SCHEMES:
            raise _refused(f"{self.environment} needs https or wss, not {target.scheme}")
        return target


def _refused(message: str) -> EnvironmentViolation:
    return EnvironmentViolation(message)


def _split_entry(entry: str) -> tuple[str, int]:
    name, colon, port = entry.partition(":")
    host = _canonical_host(name)
    if not _HOST_NAME.fullmatch(host) or (colon and not (port.isascii() and port.isdigit())):
        raise ValueError(f"not a plain host name with an optional port: {entry!r}")
    return host, int(port) if port else 443


def _canonical_host(host: str) -> str:
    """DNS ignores case and one trailing dot; so must the comparison."""
    return host.lower().removesuffix(".")


def _parse(url: str) -> Target:
    # Backslashes, blanks, control and non-ASCII characters are read differently by different parsers.
    if not _VISIBLE_ASCII.fullmatch(url) or "\\" in url or "#" in url:
        raise _refused("URL holds characters that parsers disagree about")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(f"URL cannot be parsed: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise _refused(f"scheme must be http, https, ws or wss, not {parts.scheme!r}")
    # The message leaves the authority out: user-info may hold a password.
    if not _AUTHORITY.fullmatch(parts.netloc):
        raise _refused("URL needs a plain host with an optional port: no user-info, zone or escapes")
    host = _canonical_host(parts.hostname or "")
    if not _HOST_NAME.fullmatch(host) and not _is_ipv6(host):
        raise _refused(f"not a host name or an IP address: {host!r}")
    if port == 0:
        raise _refused("port 0 cannot be reached")
    path = parts.path or "/"
    return Target(
        scheme=parts.scheme,
        host=host,
        port=port if port is not None else _DEFAULT_PORTS[parts.scheme],
        path=path,
        query=parts.query,
    )


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
