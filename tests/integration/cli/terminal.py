"""A pseudo-terminal with a command in it, and the eyes and hands of a person."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BOUND_S = 60.0
# Only the leader of a session can take a terminal, and only with one does Ctrl-C become a signal.
# What runs in the background inherits that Ctrl-C is ignored, which no shell leaves to its commands.
TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
_SEQUENCES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """What is on the screen so far, and a keyboard."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self._process = process
        self._master = master
        self.raw = b""

    @property
    def text(self) -> str:
        """Everything written, without control sequences."""
        return _SEQUENCES.sub(b"", self.raw).decode(errors="replace")

    def until(self, pattern: str) -> str:
        """Read until the text matches; raises AssertionError when it ends or stays silent before."""
        while not re.search(pattern, self.text, re.DOTALL):
            assert self._read(), f"ended without {pattern!r}: {self.text}"
        return self.text

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], BOUND_S)
        assert ready, f"silent for {BOUND_S} s: {self.text}"
        try:
            chunk = os.read(self._master, 65_536)
        except OSError:  # Linux says EIO when the other side has closed
            chunk = b""
        self.raw += chunk
        return bool(chunk)

    def type(self, text: str) -> None:
        """Press keys; "\\x03" is Ctrl-C."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code. Raises AssertionError when it goes on and on."""
        until_s = time.monotonic() + BOUND_S
        while self._read():
            assert time.monotonic() < until_s, f"still writing after {BOUND_S} s: {self.text[-500:]}"
        return self._process.wait(timeout=BOUND_S)


@contextmanager
def terminal(*command: str, environ: Mapping[str, str]) -> Iterator[Terminal]:
    """A command on a terminal of 120 columns, killed if it is still there at the end."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    process = subprocess.Popen(
        (sys.executable, "-I", "-S", "-c", TAKE_TERMINAL, *command),
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", **environ},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=BOUND_S)
        os.close(master)
