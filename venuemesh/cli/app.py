"""The command line as a whole. Light: `--help` and completion import no gRPC."""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any

import typer

from venuemesh.cli.commands import accounts, market, mesh, operations, orders, risk, routes
from venuemesh.cli.exits import Exit
from venuemesh.cli.options import global_options, wishes_of

NAME = "venuemesh"
EPILOG = (
    "Exit codes: 0 done, 1 refused, 2 wrong command line, 3 outcome unknown (never send anew under another key), "
    "4 unavailable (may be tried later), 5 a fault of the mesh, 130 interrupted."
)


def build() -> typer.Typer:
    """The app with all commands."""
    app = typer.Typer(
        name=NAME,
        help="Trade and run the mesh from the command line.",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
    )
    app.callback()(_callback())
    for subject in (mesh, market, orders, accounts, routes, risk, operations):
        subject.register(app)
    return app


def _callback() -> Any:
    """Takes the common options in front of the command."""

    def take(**values: Any) -> None:
        context: typer.Context = values.pop("context")
        context.obj = wishes_of(values)

    callback: Any = take
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    callback.__signature__ = inspect.Signature([context, *global_options()])
    callback.__annotations__ = {name: one.annotation for name, one in callback.__signature__.parameters.items()}
    callback.__doc__ = "Trade and run the mesh from the command line."
    return take


def main() -> None:
    """Run the command line and exit."""
    # gRPC's own warnings about sockets would stand between the lines; every failure is told by its status. Read by
    # gRPC when it is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        build()(prog_name=NAME)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
