"""Runs a command that dies with the supervisor, however that one ends.

    python -I -S leash.py <pid of the supervisor> <command> [argument ...]

The kernel is asked to SIGKILL this process when its parent dies, and the request survives the `exec` that
turns this process into the command. That holds when the supervisor itself is SIGKILLed, leaves no process
of ours between the two, and unlike a `preexec_fn` runs after `exec`, where no other thread's lock can be held.
It covers the command and not what the command starts; no service of the mesh starts anything. The signal is
tied to the *thread* that started the process: the supervisor starts everything from its main thread.
On systems other than Linux the command simply runs; there a SIGKILLed supervisor leaves its services behind,
and the next start says which ports they hold.

Imports nothing of the project, so that it costs about 15 ms.
Source: prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_CANNOT_RUN = 127


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies; raises OSError when it refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(arguments: list[str]) -> int:
    """Become the command; returns only when that fails."""
    parent, command = int(arguments[0]), arguments[1:]
    try:
        if sys.platform == "linux":
            die_with_parent()
        # It may have died before the kernel knew our wish.
        if os.getppid() != parent:
            return EXIT_CANNOT_RUN
        os.execvp(command[0], command)  # noqa: S606 - the supervisor's own table names the command
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
    return EXIT_CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
