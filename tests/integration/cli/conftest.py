"""One mesh for all tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cli.runs import Cli, LocalMesh, running_mesh


@pytest.fixture(scope="session")
def local_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """Up until the last test that wants it."""
    with running_mesh(tmp_path_factory.mktemp("cli") / "state") as mesh:
        yield mesh


@pytest.fixture
def cli(local_mesh: LocalMesh) -> Cli:
    """The command line, pointed at that mesh."""
    return Cli(**local_mesh.environ)
