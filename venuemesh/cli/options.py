"""Options every command takes, before or behind its name, and how a coroutine becomes a command. Light."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer

from venuemesh.cli.exits import Exit
from venuemesh.cli.session import Session
from venuemesh.cli.wishes import AGGREGATOR, ROUTER, Output, Wishes

PANEL = "Connection and output"

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result", bound=Exit | None)


def _options(*, with_env: bool) -> dict[str, Any]:
    """The annotation of each option; behind the command the environment must not win over what stands before it."""

    def option(kind: Any, name: str, text: str, **more: Any) -> Any:
        variable = f"VENUEMESH_{name.removeprefix('--').replace('-', '_').upper()}"
        if with_env:
            more |= {"envvar": variable, "show_envvar": True}
        else:
            text = f"{text} \\[env var: {variable}]"
        flags = (name, "-o") if name == "--output" else (name,)
        return Annotated[kind | None, typer.Option(*flags, help=text, rich_help_panel=PANEL, **more)]

    return {
        "router": option(str, "--router", f"Address of the router, {ROUTER} unless set.", metavar="HOST:PORT"),
        "aggregator": option(
            str, "--aggregator", f"Address of the aggregator, {AGGREGATOR} unless set.", metavar="HOST:PORT"
        ),
        "token_file": option(Path, "--token-file", "File that holds your token."),
        "ca": option(Path, "--ca", "PEM file of the authority to trust; plain text without."),
        "cert": option(Path, "--cert", "PEM file of your certificate, where one is asked for."),
        "cert_key": option(Path, "--cert-key", "PEM file of its key."),
        "output": option(Output, "--output", "Tables for people, or protobuf JSON for scripts."),
        "timeout": option(float, "--timeout", "Seconds for each call; the contract's own unless set.", min=0.001),
    }


def global_options() -> list[inspect.Parameter]:
    """The options as they stand before the command."""
    return [_parameter(name, annotation) for name, annotation in _options(with_env=True).items()]


def wishes_of(given: dict[str, Any], below: Wishes | None = None) -> Wishes:
    """What was asked for, over what was asked for before; None leaves that."""
    names = {field.name for field in fields(Wishes)}
    return replace(below or Wishes(), **{k: v for k, v in given.items() if k in names and v is not None})


def command(
    app: typer.Typer, name: str | None = None, **more: Any
) -> Callable[
    [Callable[Concatenate[Session, Arguments], Awaitable[Result]]],
    Callable[Concatenate[Session, Arguments], Awaitable[Result]],
]:
    """Register `async def work(session, ...)` as a command: its result is the exit code, its errors are told."""

    def register(
        work: Callable[Concatenate[Session, Arguments], Awaitable[Result]],
    ) -> Callable[Concatenate[Session, Arguments], Awaitable[Result]]:
        app.command(name, **more)(runner(work))
        return work

    return register


def group(app: typer.Typer) -> Callable[[Any], Any]:
    """Register `work` as what a group does when no command of it is named."""

    def register(work: Any) -> Any:
        app.callback(invoke_without_command=True)(runner(work, only_without_command=True))
        return work

    return register


def runner(work: Callable[..., Awaitable[Exit | None]], *, only_without_command: bool = False) -> Callable[..., None]:
    """A plain function with the options of `work` and the common ones, for typer."""
    signature = inspect.signature(work, eval_str=True)
    own = list(signature.parameters.values())[1:]
    common = _options(with_env=False)
    taken = common.keys() & {parameter.name for parameter in own}
    if taken:
        raise TypeError(f"{work.__name__}: {', '.join(taken)} is an option of every command")
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    added = [_parameter(name, annotation) for name, annotation in common.items()]

    @functools.wraps(work)
    def run_it(**values: Any) -> None:
        from venuemesh.cli.running import run

        around: typer.Context = values.pop("context")
        wishes = wishes_of({name: values.pop(name) for name in common}, around.obj)
        around.obj = wishes  # a group's options hold for its commands
        if only_without_command and around.invoked_subcommand is not None:
            return
        raise typer.Exit(run(wishes, functools.partial(work, **values)))

    wrapped: Any = run_it
    del wrapped.__wrapped__
    wrapped.__signature__ = inspect.Signature([context, *own, *added])
    wrapped.__annotations__ = {one.name: one.annotation for one in wrapped.__signature__.parameters.values()}
    return run_it


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
