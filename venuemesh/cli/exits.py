"""What the exit code of a command says. Pure and light: also `--help` imports it."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """A script may act on the code alone."""

    OK = 0
    """Done as asked."""
    REFUSED = 1
    """Certainly not done: refused by a rule, a venue or a person; the reason is on standard error."""
    USAGE = 2
    """The command line is wrong; nothing was called."""
    UNKNOWN = 3
    """It may have taken effect, and nobody can tell yet. Never send anew under another key."""
    UNAVAILABLE = 4
    """Certainly not done because something is away or busy; the same command may be tried later."""
    FAULT = 5
    """A fault of the mesh itself: report it."""
    INTERRUPTED = 130
    """Ctrl-C."""


def worst(codes: list[Exit]) -> Exit:
    """The code of several acts together: doubt weighs more than absence, absence more than a refusal."""
    order = (Exit.FAULT, Exit.UNKNOWN, Exit.UNAVAILABLE, Exit.REFUSED)
    return next((code for code in order if code in codes), Exit.OK)


class UsageFault(Exception):
    """The command line cannot be carried out as it stands; the text names the option and the rule."""


class Declined(Exception):
    """The person at the terminal said no."""
