"""Whether the fixed ports are free, and who has those that are not."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from deploy.local.services import Service

HOST = "127.0.0.1"
_LISTEN = "0A"


class PortBusy(Exception):
    """At least one fixed port is taken; the text names each, its use and its owner."""


def require_free(services: Sequence[Service]) -> None:
    """Refuse to start while a port of the table is taken.

    Raises:
        PortBusy: lists them all.
    """
    faults = [
        f"  {HOST}:{port} ({service.name}, {use}) is held by {owner_of(port) or _guess()}"
        for service in services
        for use, port in service.ports.items()
        if is_taken(port)
    ]
    if faults:
        ways = "Stop the owner (`make down` for a mesh of this folder), or choose free ports with `--ports auto`."
        raise PortBusy("\n".join(["these ports are busy:", *faults, ways]))


def is_taken(port: int) -> bool:
    """Whether something listens at the loopback port or the system keeps it for another reason."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection that is only lingering does not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return True
            raise
        return False


def owner_of(port: int) -> str | None:
    """`process 1234 (python -m router)`; None when the system does not tell us."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if _holds_any(process, sockets):
            return f"process {process.name} ({_command_of(process)})"
    return None


def _listening_inodes(port: int) -> set[str]:
    """Source: proc(5), /proc/net/tcp: local address, state and inode are fields 1, 3 and 9."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in (row.split() for row in rows):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _holds_any(process: Path, sockets: set[str]) -> bool:
    try:
        for descriptor in (process / "fd").iterdir():
            if _target(descriptor) in sockets:
                return True
    except OSError:
        # Another user's process, or one that has just ended.
        return False
    return False


def _target(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except OSError:
        return None


def _command_of(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended meanwhile"
    text = " ".join(word.decode(errors="replace") for word in words if word)
    return text[:100] or "unnamed"


def _guess() -> str:
    return f"a process this user ({os.getuid()}) may not look into, perhaps another mesh or another program"
