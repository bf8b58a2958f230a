"""The Dockerfile, read: what no engine is needed for. `make image-check` runs its steps."""

from __future__ import annotations

import importlib.util
import re

import pytest

from aggregator.settings import AGGREGATOR_PORT
from router.settings import ROUTER_PORT
from tests.unit.deploy.k8s.dockerfile import DOCKERFILE, ROOT, chain, environment, read_stages
from tests.unit.deploy.k8s.manifests import SERVICES
from venuemesh.probing import PROBE_PORT

STAGES = read_stages()
IMAGES = [*SERVICES, "simulator", "nats"]


@pytest.mark.parametrize("image", IMAGES)
def test_image_runs_as_nobody_and_its_process_gets_the_signals(image: str) -> None:
    """A numeric user, so that Kubernetes can see it is not root, and no shell between the signal and the process."""
    lines = chain(STAGES, image)
    assert [line.rest for line in lines if line.word == "USER"] == ["65532:65532"]
    (entry,) = [line for line in lines if line.word == "ENTRYPOINT"]
    assert entry.command, f"{image}: not in exec form: {entry.rest}"
    assert not {"sh", "bash", "/bin/sh"} & set(entry.command)
    assert [line.rest for line in lines if line.word == "STOPSIGNAL"] == ["SIGTERM"]
    assert lines[-1] is entry, "nothing after the entry point"


@pytest.mark.parametrize("image", SERVICES)
def test_image_of_a_service_starts_its_package_and_asks_for_its_health(image: str) -> None:
    """One entry point per service; the health check is a gRPC probe of the port that the image opens."""
    (entry,) = STAGES[image].all("ENTRYPOINT")
    package = image.replace("-", "_")
    assert entry.command == ["python", "-m", package]
    assert importlib.util.find_spec(f"{package}.__main__")
    (check,) = STAGES[image].all("HEALTHCHECK")
    assert check.command == ["python", "-m", "venuemesh.probing"]
    assert environment(STAGES, image)[f"{package.upper()}_GRPC__PROBE_PORT"] == str(PROBE_PORT)
    (exposed,) = STAGES[image].all("EXPOSE")
    ports = {"router": ROUTER_PORT, "aggregator": AGGREGATOR_PORT}
    assert exposed.rest.split()[1:] == ["9464", str(PROBE_PORT)]
    assert int(exposed.rest.split()[0]) == ports.get(image, int(exposed.rest.split()[0]))


def test_every_step_is_in_exec_form_and_installs_the_lock_with_hashes_only() -> None:
    """What the tests ran with is what runs: one install, of the lock, hashes required, nothing compiled."""
    runs = [line for stage in STAGES.values() for line in stage.all("RUN")]
    commands = [line.command for line in runs]
    assert all(commands), "a RUN in shell form"
    installs = [command for command in commands if command and "install" in command]
    assert len(installs) == 1
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(installs[0])
    assert installs[0][-2:] == ["-r", "/build/requirements.lock"]


def test_no_address_of_an_index_and_no_secret_is_in_the_file() -> None:
    """Where packages come from is the builder's own configuration, and an image holds no key."""
    text = DOCKERFILE.read_text() + (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|--index-url|--extra-index|--find-links|--trusted-host", text)
    words = {line.word for stage in STAGES.values() for line in stage.lines}
    assert "ADD" not in words
    assert "ARG" not in words, "a build argument of a stage would stay in its history"


def test_images_hold_their_packages_and_nothing_of_tests_or_keys() -> None:
    """The build context is a list of what may go in, and every COPY is on it and exists."""
    ignore = (ROOT / ".dockerignore").read_text().split("\n")
    lines = [line for line in ignore if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copies = [line.rest.split() for stage in STAGES.values() for line in stage.all("COPY")]
    sources = {words[0].rstrip("/") for words in copies if not words[0].startswith("--from")}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)
    # Read-only root: nothing is written beside the code, so the bytecode is there already.
    assert environment(STAGES, "router")["PYTHONDONTWRITEBYTECODE"] == "1"
