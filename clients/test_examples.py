"""Every example client against one running mesh: over TLS with a token, and over a relay that loses things.

Run by `make clients-test`, which builds the clients first; not part of `make test`, as it needs five toolchains.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from clients.relay import Relay
from clients.toolchains import CLIENTS, Client, search_path
from tests.e2e.mesh import Mesh, running_mesh
from venuemesh.v1 import order_service_pb2

RUN_LIMIT_S = 90.0
STORY = (
    r"venue: hyperliquid is SIMULATOR",
    r"executions: following from sequence \d+",
    r"submit: (?P<rest>\w+-\d+-rest) is NEW",
    r"executions: (?P=rest) is NEW at sequence \d+",
    r"executions: cut at sequence (?P<cut>\d+)",
    r"cancel all: [1-9]\d* orders, 0 venues not reached",
    r"executions: resumed after sequence (?P=cut)",
    r"executions: (?P=rest) is CANCELED at sequence \d+",
    r"executions: cut at sequence \d+",
    r"portfolio: snapshot of \d+ accounts at sequence \d+",
    r"route: \w+ is the best of \d+ venues now",
    r"submit: (?P<route>\w+-\d+-route) is \w+ at \w+",
    r"portfolio: fill of 0\.001 at sequence \d+",
    r"done",
)
# The answer lost on the way, and the stream that broke before its first report: both come before the cut.
FAULTS = (
    r"submit: (?P<lost>\S+) answer lost, UNAVAILABLE; reading back",
    r"executions: lost at sequence (?P<broken>\d+), UNAVAILABLE",
    r"executions: resumed after sequence (?P=broken)",
)
STORY_WITH_FAULTS = (*STORY[:2], FAULTS[0], STORY[2], *FAULTS[1:], *STORY[3:])

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of an example ended."""

    code: int
    out: str
    err: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with running_mesh(tmp_path_factory.mktemp("mesh"), secured=True) as running:
        yield running


@pytest.fixture(params=CLIENTS, ids=lambda client: client.name)
def client(request: pytest.FixtureRequest) -> Client:
    """Each client whose toolchain is here."""
    found: Client = request.param
    why = found.missing()
    if why is not None:
        pytest.skip(why)
    assert (found.folder / found.made).exists(), f"{found.name} is not built: run `make clients`"
    return found


async def run(client: Client, settings: Mapping[str, str]) -> Ended:
    """One run of the example with these settings and no others."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("VENUEMESH_")}
    settings = {f"VENUEMESH_{key}": value for key, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *client.run,
        cwd=client.folder,
        env={**ours, **settings, "PATH": search_path()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(RUN_LIMIT_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        pytest.fail(f"{client.name} did not end within {RUN_LIMIT_S:g} s:\n{out.decode()}\n{err.decode()}")
    assert process.returncode is not None
    ended = Ended(process.returncode, out.decode(), err.decode())
    sys.stdout.write(f"--- {client.name}: exit code {ended.code}\n{ended.out}{ended.err}")
    return ended


def told(ended: Ended, story: Sequence[str]) -> re.Match[str]:
    """The whole story, every line once and in order."""
    match = re.fullmatch("\n".join(story), ended.out.rstrip("\n"))
    assert match is not None, f"exit code {ended.code}\n{ended.out}\n{ended.err}"
    return match


async def test_client_over_tls_with_a_token_tells_the_whole_story(mesh: Mesh, client: Client) -> None:
    """Straight to the router and the aggregator; its orders end as it says."""
    assert mesh.security is not None
    ended = await run(
        client,
        {
            "ROUTER": mesh.known["router"]["grpc_address"],
            "AGGREGATOR": mesh.known["aggregator"]["grpc_address"],
            "CA_FILE": str(mesh.security.channel.ca_file),
            "TOKEN_FILE": str(mesh.security.token_file),
        },
    )
    assert ended.code == 0, ended.err
    story = told(ended, STORY)
    reference = order_service_pb2.OrderReference(account_id="main", client_order_id=story["rest"])
    request = order_service_pb2.GetOrderRequest(reference=reference)
    order = (await mesh.orders().GetOrder(request, timeout=5)).order
    assert (order.terminal, order.filled_quantity) == (True, "0")


async def test_client_over_a_relay_that_loses_things_tells_the_same_story(mesh: Mesh, client: Client) -> None:
    """A lost answer is read back and not resent, a broken stream resumed, reads and cancels are repeated."""
    router, aggregator = Relay(mesh.channel("router")), Relay(mesh.channel("aggregator"))
    await router.start()
    await aggregator.start()
    try:
        ended = await run(client, {"ROUTER": router.address, "AGGREGATOR": aggregator.address})
    finally:
        await router.stop()
        await aggregator.stop()
    assert ended.code == 0, ended.err
    story = told(ended, STORY_WITH_FAULTS)
    assert story["lost"] == story["rest"]
    assert dict(router.submits) == {story["rest"]: 1, story["route"]: 1}
    assert router.calls["MarketDataService/GetOrderBook"] == 2
    assert router.calls["OrderService/CancelAllOrders"] == 2


async def test_client_with_a_token_and_no_tls_sends_nothing(client: Client, tmp_path: Path) -> None:
    """A token in plain text would be anybody's."""
    token = tmp_path / "token"
    token.write_text("secret-word")
    ended = await run(client, {"ROUTER": "127.0.0.1:1", "AGGREGATOR": "127.0.0.1:1", "TOKEN_FILE": str(token)})
    assert (ended.code, ended.out) == (1, "")
    assert "over TLS only" in ended.err
    assert "secret-word" not in ended.err
