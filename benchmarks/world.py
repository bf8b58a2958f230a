"""The mesh that the benchmarks measure: all services as processes of their own, on free ports, over the simulator.

    python -m benchmarks.world --folder /tmp/x --accounts '{...}'

It is what `make run` starts, with three changes at the simulator alone: it knows the accounts of the other contenders,
it counts no request against them, and it neither delays nor verifies Lighter's transactions, so that no contender
hides behind the venue. Printed is one JSON line with addresses and process ids; the mesh ends with standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.local.__main__ import nats_server
from deploy.local.mesh import Ports, make_accounts, mesh_services
from deploy.local.services import Known, Plan, Service
from deploy.local.state import StateFolder
from deploy.local.supervisor import Policy, Supervisor
from gateway_lighter.schnorr import PrivateKey
from hypercore.signing import SecretKey

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 90.0
FUNDS = "1000000"
LIGHTER_KEY_INDEX = 5
FIRST_LIGHTER_ACCOUNT = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperliquidAccount:
    """An account that trades with its own key."""

    key: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LighterAccount:
    """An account and its API key."""

    index: int
    key: str
    public_key: str


def new_hyperliquid_account() -> HyperliquidAccount:
    """Drawn at random."""
    key = secrets.token_hex(32)
    return HyperliquidAccount(key=key, address=SecretKey(key).address)


def new_lighter_account(place: int) -> LighterAccount:
    """Drawn at random; `place` makes its index."""
    key = secrets.token_hex(39) + "00"
    return LighterAccount(index=FIRST_LIGHTER_ACCOUNT + place, key=key, public_key=PrivateKey(key).public_key.hex())


def simulator_tables(
    hyperliquid: Mapping[str, HyperliquidAccount], lighter: Mapping[str, LighterAccount]
) -> dict[str, dict[str, Any]]:
    """The simulator's settings that make it know these accounts; public facts only."""
    return {
        "SIMULATOR_ACCOUNTS": {account.address: FUNDS for account in hyperliquid.values()},
        "SIMULATOR_LIGHTER_ACCOUNTS": {
            str(account.index): {
                "l1_address": f"0x{account.index:040x}",
                "keys": {str(LIGHTER_KEY_INDEX): account.public_key},
                "usdc": FUNDS,
                "tier": "premium",
            }
            for account in lighter.values()
        },
    }


_UNLIMITED = {
    "SIMULATOR_ADMIN": "true",
    "SIMULATOR_IP_WEIGHT_PER_MINUTE": "0",
    "SIMULATOR_ADDRESS_BUDGET": "10000000",
    "SIMULATOR_LIGHTER_DELAYS": "false",
    "SIMULATOR_LIGHTER_RATE_LIMITS": "false",
    "SIMULATOR_LIGHTER_VERIFY": "false",
}


def _for_benchmarks(service: Service, tables: Mapping[str, dict[str, Any]]) -> Service:
    if service.name != "simulator":
        return service

    def plan(known: Known) -> Plan:
        made = service.plan(known)
        settings = dict(made.settings)
        for key, rows in tables.items():
            settings[key] = json.dumps({**json.loads(settings.get(key, "{}")), **rows})
        return Plan(command=made.command, settings={**settings, **_UNLIMITED})

    return replace(service, plan=plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A mesh that is up."""

    known: Mapping[str, Mapping[str, str]]
    pids: Mapping[str, int]

    def grpc(self, service: str) -> str:
        """Address of a service."""
        return self.known[service]["grpc_address"]


@asynccontextmanager
async def mesh(folder: Path, tables: Mapping[str, dict[str, Any]]) -> AsyncIterator[Mesh]:
    """Run the mesh in processes of its own while the block runs; this process reads none of its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.world", "--folder", str(folder), "--accounts", json.dumps(tables)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"the mesh did not start; its logs are in {folder}")
        yield Mesh(**json.loads(line))
    finally:
        process.stdin.close()
        await process.wait()


async def _serve(folder: Path, tables: Mapping[str, dict[str, Any]]) -> None:
    state = StateFolder(folder)
    table = mesh_services(
        ports=Ports.auto(), nats_server=nats_server(), jetstream=state.jetstream, accounts=make_accounts(state)
    )
    supervisor = Supervisor(
        [_for_benchmarks(service, tables) for service in table],
        logs=state.logs,
        folder=ROOT,
        environ=os.environ,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        policy=Policy(ready_timeout_s=START_TIMEOUT_S),
    )
    stop = asyncio.Event()

    async def body(known: Known) -> None:
        facts = {name: dict(found) for name, found in known.items()}
        print(json.dumps({"known": facts, "pids": dict(supervisor.process_groups)}), flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()

    await supervisor.run(body, stop)


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--accounts", type=json.loads, default={})
    options = parser.parse_args()
    asyncio.run(_serve(options.folder, options.accounts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
