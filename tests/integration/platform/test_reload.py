"""Every kind of service reads its file again: over gRPC and by SIGHUP, as the process operators run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.broker import Broker
from venuemesh.errors import MeshError, Reason, Sent
from venuemesh.status import error_from_rpc
from venuemesh.v1 import operations_service_pb2 as pb
from venuemesh.v1 import operations_service_pb2_grpc

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 60.0
NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A service, what it needs beside a broker, and a setting of its own that may change."""

    module: str
    environ: dict[str, str]
    table: str = ""
    keys: Sequence[str] = ()


KINDS = [
    Kind(
        module="router",
        environ={"VENUES": f"a={NOWHERE}"},
        table="[gateway]\nmax_submits = 7\n[gateway.breaker]\nprobes = 2\n",
        keys=("GATEWAY__BREAKER__PROBES", "GATEWAY__MAX_SUBMITS"),
    ),
    Kind(module="aggregator", environ={}),
    Kind(
        module="gateway_hyperliquid",
        environ={"API_URL": f"http://{NOWHERE}"},
        table="[links]\npause_orders = true\nmax_latency_s = 0.5\n",
        keys=("LINKS__MAX_LATENCY_S", "LINKS__PAUSE_ORDERS"),
    ),
    Kind(
        module="gateway_lighter",
        environ={"API_URL": f"http://{NOWHERE}"},
        table="[links]\nrecover_ratio = 0.25\n",
        keys=("LINKS__RECOVER_RATIO",),
    ),
]


class Service:
    """A service that runs with a file of settings."""

    def __init__(self, file: Path, process: asyncio.subprocess.Process, channel: grpc.aio.Channel) -> None:
        self.file = file
        self.process = process
        self.operations: Any = operations_service_pb2_grpc.OperationsServiceStub(channel)

    async def reload(self) -> tuple[list[str], list[str]]:
        """Keys that changed, and keys that need a restart."""
        answer = await self.operations.ReloadConfiguration(pb.ReloadConfigurationRequest(), timeout=LIMIT_S)
        return list(answer.changed_keys), list(answer.restart_keys)

    async def refusal(self) -> MeshError:
        """How a reload is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.reload()
        return error_from_rpc(caught.value, is_write=True)

    async def level(self) -> str:
        """The level in force, which is INFO afterwards."""
        answer = await self.operations.SetLogLevel(pb.SetLogLevelRequest(level="INFO"), timeout=LIMIT_S)
        return str(answer.previous_level)

    async def logged(self, event: str) -> dict[str, Any]:
        """The next line of its log about this."""
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            while True:
                line = await self.process.stderr.readline()
                assert line, "the service ended"
                fields: dict[str, Any] = json.loads(line)
                if fields["event"] == event:
                    return fields


@asynccontextmanager
async def serving(kind: Kind, broker: Broker, file: Path) -> AsyncIterator[Service]:
    """The service as a process of its own; it must end in good order."""
    prefix = f"{kind.module.upper()}_"
    own = {
        "CONFIG": str(file),
        "NATS__URLS": broker.url,
        "GRPC__PORT": "0",
        "GRPC__DRAIN_PAUSE_S": "0",
        "METRICS__ENABLED": "false",
        "TELEMETRY__LOG_FORMAT": "json",
        **kind.environ,
    }
    environ = {key: value for key, value in os.environ.items() if not key.startswith(prefix)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", kind.module),
        cwd=ROOT,
        env={**environ, **{f"{prefix}{key}": value for key, value in own.items()}},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            ready = json.loads(await process.stdout.readline())
        async with grpc.aio.insecure_channel(ready["grpc_address"]) as channel:
            yield Service(file, process, channel)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_S):
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.module)
async def test_file_that_changed_is_taken_over_as_far_as_it_may(kind: Kind, broker: Broker, tmp_path: Path) -> None:
    """What changed, what waits for a restart, nothing from a bad file; a signal does the same as a call."""
    file = tmp_path / "service.toml"
    file.write_text("")
    async with serving(kind, broker, file) as service:
        assert await service.reload() == ([], [])
        assert (await service.logged("configuration_reloaded"))["level"] == "INFO"
        good = f'{kind.table}[telemetry]\nlog_level = "WARNING"\n[nats]\nconnect_timeout_s = 7\n'
        file.write_text(good)
        changed = sorted([*kind.keys, "TELEMETRY__LOG_LEVEL"])
        assert await service.reload() == (changed, ["NATS__CONNECT_TIMEOUT_S"])
        line = await service.logged("configuration_reloaded")
        assert (line["changed"], line["restart"]) == (changed, ["NATS__CONNECT_TIMEOUT_S"])
        assert await service.level() == "WARNING"
        assert await service.reload() == ([], ["NATS__CONNECT_TIMEOUT_S"])

        file.write_text('speling = 1\n[grpc]\ncall_burst = 0\n[telemetry]\nlog_level = "ERROR"\n')
        refusal = await service.refusal()
        assert (refusal.reason, refusal.sent) == (Reason.CONFIGURATION_INVALID, Sent.NO)
        for part in (f"{file}: speling: is no setting", f"{file}: grpc.call_burst: ", "(got 0)"):
            assert part in refusal.message
        assert len((await service.logged("configuration_refused"))["faults"]) == 2
        assert await service.level() == "INFO"

        file.write_text(good.replace("WARNING", "DEBUG"))
        service.process.send_signal(signal.SIGHUP)
        assert (await service.logged("configuration_reloaded"))["changed"] == ["TELEMETRY__LOG_LEVEL"]
        assert await service.level() == "DEBUG"
        file.unlink()
        service.process.send_signal(signal.SIGHUP)
        (fault,) = (await service.logged("configuration_refused"))["faults"]
        assert fault == f"--config {file}: No such file or directory"


@pytest.mark.parametrize("kind", KINDS[1:2], ids=lambda kind: kind.module)
async def test_limits_of_callers_hold_from_the_next_call_on(kind: Kind, broker: Broker, tmp_path: Path) -> None:
    """One call more, and then the refusal has the new bounds; a signal gets through where calls do not."""
    file = tmp_path / "service.toml"
    file.write_text("")
    async with serving(kind, broker, file) as service:
        file.write_text("[grpc]\ncall_burst = 1\ncalls_per_second = 0.001\n")
        assert await service.reload() == (["GRPC__CALLS_PER_SECOND", "GRPC__CALL_BURST"], [])
        await service.reload()
        refusal = await service.refusal()
        assert (refusal.reason, refusal.metadata["value"]) == (Reason.RATE_LIMIT_LOCAL, "0.001")
        await service.logged("configuration_reloaded")
        file.write_text("")
        service.process.send_signal(signal.SIGHUP)
        while len((await service.logged("configuration_reloaded"))["changed"]) != 2:
            continue
        file.write_text("[nats]\nreplicas = 3\n")
        service.process.send_signal(signal.SIGHUP)
        assert (await service.logged("configuration_reloaded"))["restart"] == ["NATS__REPLICAS"]
