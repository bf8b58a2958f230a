"""Reads a Dockerfile as far as ours goes: instructions of every stage, what a stage is built from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[4]
DOCKERFILE = ROOT / "deploy/image/Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a stage; `command` is its exec form, None when it is none."""

    word: str
    rest: str

    @property
    def command(self) -> list[str] | None:
        text = self.rest[self.rest.find("[") :]
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else None


@dataclass(frozen=True, slots=True)
class Stage:
    """A `FROM`: `base` is another stage or an image."""

    name: str
    base: str
    lines: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        return [line for line in self.lines if line.word == word]


def read_stages(path: Path = DOCKERFILE) -> dict[str, Stage]:
    """The stages by name, in their order."""
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    text = re.sub(r"\\\n", " ", path.read_text())
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            match = re.fullmatch(r"(\S+) AS (\S+)", rest)
            assert match is not None, f"a stage without a name: {line}"
            current = stages[match[2]] = Stage(match[2], match[1])
        elif current is not None:
            current.lines.append(Instruction(word, rest.strip()))
        else:
            assert word == "ARG", f"before the first stage only ARG: {line}"
    return stages


def chain(stages: dict[str, Stage], name: str) -> list[Instruction]:
    """All instructions of a stage and of the stages it is built from, the first one first."""
    stage = stages[name]
    return [*(chain(stages, stage.base) if stage.base in stages else []), *stage.lines]


def environment(stages: dict[str, Stage], name: str) -> dict[str, str]:
    """What ENV sets in an image."""
    pairs = [line.rest.partition("=") for line in chain(stages, name) if line.word == "ENV"]
    return {key: value for key, _, value in pairs}
