"""Tiny services for the supervisor's tests: one Python process each, steered by a few words of code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy.local.services import Facts, Known, Plan, Service, ready_line

HEAD = """
import json, os, signal, sys, time
def say(**fields): print(json.dumps(fields), flush=True)
def ready(**facts): say(event="service_ready", **facts)
def note(text):
    with open(os.environ["FAKE_JOURNAL"], "a") as file: file.write(text + "\\n")
def leave(number, frame):
    note(f"stop {name}")
    sys.exit(0)
name = os.environ["FAKE_NAME"]
signal.signal(signal.SIGTERM, leave)
note(f"start {name}")
"""
STAY = "\nready(url=name)\nsignal.pause()"


def fake(
    name: str,
    journal: Path,
    code: str = STAY,
    *,
    needs: tuple[str, ...] = (),
    prefix: str | None = None,
) -> Service:
    """A service that runs `code` after a preamble which writes to `journal` when it starts and stops."""

    def plan(known: Known) -> Plan:
        settings = {"FAKE_NAME": name, "FAKE_JOURNAL": str(journal)}
        settings |= {f"FAKE_FACT_{key.upper()}": facts.get("url", "") for key, facts in known.items()}
        return Plan(command=(sys.executable, "-c", HEAD + code), settings=settings)

    return Service(name=name, plan=plan, ready=_ready, needs=needs, prefix=prefix, health=())


def _ready(line: str) -> Facts | None:
    return ready_line(line)


def group_exists(group: int) -> bool:
    """Whether any process, zombies included, is in the process group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
