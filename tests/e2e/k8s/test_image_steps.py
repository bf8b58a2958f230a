"""The Dockerfile's steps, run in a clean folder: what an engine would make, as near as a machine without one comes."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.k8s.pods import Image, cluster
from tests.unit.deploy.k8s.dockerfile import environment, read_stages
from tests.unit.deploy.k8s.manifests import GATEWAYS, ROOT, SERVICES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("kubernetes-image"),
    pytest.mark.skipif("VENUEMESH_IMAGE" not in os.environ, reason="run by `make image-check`"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs more loopback addresses than one"),
]
STAGES = ("build", "simulator")
"""Everything that copies from the context or runs a step; `runtime` takes both folders over as they are."""


def ignored(folder: str, names: list[str]) -> set[str]:
    """What the last lines of .dockerignore leave out below a folder that is let in."""
    patterns = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split() if "**/" in line]
    return {name for name in names for pattern in patterns if fnmatch.fnmatch(name, pattern)}


def build(root: Path) -> Image:
    """Run every COPY and RUN of the stages with absolute paths below `root`."""

    def inside(text: str) -> str:
        return f"{root}{text}" if text.startswith("/") else text

    # No variable of this run's own Python may leak into the environment that is built.
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    for name in STAGES:
        for line in read_stages()[name].lines:
            if line.word == "COPY":
                source, target = line.rest.split()
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, inside(target), ignore=ignored)
                else:
                    Path(inside(target)).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, inside(target))
            if line.word == "RUN":
                assert line.command is not None
                command = [inside(each) for each in line.command]
                if command[0] == "python":
                    command[0] = getattr(sys, "_base_executable", sys.executable)
                done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900, cwd=root)
                assert done.returncode == 0, f"{line.rest}\n{done.stdout}\n{done.stderr}"
    return Image(environment=root / "opt/venuemesh", app=root / "app")


def contents(image: Image) -> set[tuple[str, int]]:
    """Every file with its time of change."""
    files = (file for root in (image.environment, image.app) for file in root.rglob("*") if file.is_file())
    return {(str(file), file.stat().st_mtime_ns) for file in files}


async def test_image_made_of_the_lock_alone_runs_every_service_and_writes_nothing(tmp_path: Path) -> None:
    """A fresh environment with hashes required; health is SERVING, the engine's check agrees, SIGTERM ends with 0."""
    root = tmp_path / "image"
    root.mkdir()
    image = await asyncio.to_thread(build, root)
    assert not (image.app / "tests").exists()
    assert not list(image.environment.glob("lib/*/site-packages/pytest")), "nothing of development is in it"
    before = contents(image)
    async with asyncio.timeout(600), cluster(tmp_path / "pods", image) as up:
        await up.start([f"nats-{number}" for number in range(3)])
        await up.start([f"{name}-0" for name in GATEWAYS])
        await up.start(["router", "aggregator"])
        for name in SERVICES:
            # In its container the probe's port is on loopback; here it is on the pod's address.
            address = f"{up.address(name)}:8086"
            variables = {**environment(read_stages(), name), "PATH": os.environ["PATH"]}
            check = await asyncio.create_subprocess_exec(
                *image.health_check(name), address, cwd=image.app, env=variables
            )
            assert await check.wait() == 0
        for name in ("router", "aggregator", *(f"{each}-0" for each in GATEWAYS)):
            assert await up.stop(name) == 0, up.pods[name].log()
    assert contents(image) == before, "a read-only root file system would have refused this"
