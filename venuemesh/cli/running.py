"""Runs one command: a session, the event loop, and every way it can end as an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from venuemesh.cli import failure
from venuemesh.cli.exits import Declined, Exit, UsageFault
from venuemesh.cli.printing import Printer
from venuemesh.cli.session import Session
from venuemesh.cli.wishes import Wishes
from venuemesh.clock import Clock, SystemClock
from venuemesh.errors import MeshError

Work = Callable[[Session], Awaitable[Exit | None]]


def run(wishes: Wishes, work: Work, clock: Clock | None = None) -> int:
    """Do the work and say how it ended; what went wrong stands on standard error."""
    printer = Printer(wishes.output)
    try:
        return int(asyncio.run(_within(wishes, printer, clock or SystemClock(), work)) or Exit.OK)
    except MeshError as error:
        printer.failure(failure.head(error), failure.facts(error), failure.as_json(error))
        return int(failure.exit_of(error))
    except UsageFault as fault:
        printer.fault("usage", str(fault), Exit.USAGE)
        return int(Exit.USAGE)
    except Declined:
        printer.fault("not done", "nothing was changed", Exit.REFUSED)
        return int(Exit.REFUSED)
    except KeyboardInterrupt:
        printer.note("interrupted")
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader has what it wanted, as with `| head`; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)


async def _within(wishes: Wishes, printer: Printer, clock: Clock, work: Work) -> Exit | None:
    async with AsyncExitStack() as stack:
        return await work(Session(wishes, printer, clock, stack))
