"""What grpc.aio keeps of calls that ended badly: live call objects and memory growth per call.

    python benchmarks/grpc_leak.py                    # every scenario, a table, exit 1 above a bound
    python benchmarks/grpc_leak.py -n 2000 -s stream_cancelled

The grpcio version is pinned by this table. What it showed in November 2026, and the rules that follow:

- Since 1.83 a server stream that its reader drops is never collected, so it runs until its channel closes
  (grpc#43462). 1.82.3 collects it: that is why the pin is below 1.83.
- An unanswered unary call that is dropped is never collected in any version: always await or cancel.
- A unary call ended by `cancel()`, and so by `asyncio.timeout`, leaves about 1 KB in any version
  (grpc#43360); one ended by gRPC's own `timeout=` leaves nothing: bound calls with that.

Each scenario runs in a process of its own, against an echo server in another one, so that the growth of the
client and of the server are told apart. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

IN_FLIGHT = 50
Channel = grpc.aio.Channel
Refs = list["weakref.ref[Any]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; bytes are resident-set growth per call after warm-up."""

    scenario: str
    calls: int
    alive_before_gc: int
    alive_after_gc: int
    server_open: int
    client_bytes: float
    server_bytes: float


# --- the server process ------------------------------------------------------------------------------------

open_handlers = 0


async def _echo(request: bytes, context: Any) -> bytes:
    return request


async def _hang(request: bytes, context: Any) -> bytes:
    global open_handlers
    open_handlers += 1
    try:
        await asyncio.Event().wait()
    finally:
        open_handlers -= 1
    return request


async def _endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """One message, then silence; a handler that lets the cancellation through."""
    yield request
    await _hang(request, context)


async def _endless_swallowing(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """The pattern of grpc#43360: the handler catches the cancellation and returns."""
    yield request
    try:
        await _hang(request, context)
    except asyncio.CancelledError:
        return


async def _open(request: bytes, context: Any) -> bytes:
    """How many hanging handlers are open, after a full collection."""
    _settle()
    return json.dumps([open_handlers, _resident_bytes()]).encode()


async def _serve() -> None:
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Hang": grpc.unary_unary_rpc_method_handler(_hang),
        "Endless": grpc.unary_stream_rpc_method_handler(_endless),
        "Swallowing": grpc.unary_stream_rpc_method_handler(_endless_swallowing),
        "Open": grpc.unary_unary_rpc_method_handler(_open),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("leak.Probe", handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


# --- the client process ------------------------------------------------------------------------------------


def _unary_unary(channel: Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)


def _unary_stream(channel: Channel, method: str) -> grpc.aio.UnaryStreamMultiCallable[bytes, bytes]:
    return channel.unary_stream(method, request_serializer=bytes, response_deserializer=bytes)


async def unary_awaited(channel: Channel, refs: Refs) -> None:
    """The control: a call that ends as calls should."""
    call = _unary_unary(channel, "/leak.Probe/Echo")(b"x")
    refs.append(weakref.ref(call))
    await call


async def unary_deadline(channel: Channel, refs: Refs) -> None:
    """A call without an answer, ended by its own deadline."""
    call = _unary_unary(channel, "/leak.Probe/Hang")(b"x", timeout=0.01)
    refs.append(weakref.ref(call))
    await asyncio.gather(call, return_exceptions=True)


async def unary_cancelled(channel: Channel, refs: Refs) -> None:
    """A call without an answer, cancelled by its owner."""
    call = _unary_unary(channel, "/leak.Probe/Hang")(b"x")
    refs.append(weakref.ref(call))
    await asyncio.sleep(0)
    call.cancel()


async def unary_abandoned(channel: Channel, refs: Refs) -> None:
    """A call without an answer, dropped without `cancel`."""
    refs.append(weakref.ref(_unary_unary(channel, "/leak.Probe/Hang")(b"x")))
    await asyncio.sleep(0)


async def stream_abandoned(channel: Channel, refs: Refs) -> None:
    """One message read, then dropped without `cancel`."""
    call = _unary_stream(channel, "/leak.Probe/Endless")(b"x")
    refs.append(weakref.ref(call))
    await call.read()


async def stream_cancelled(channel: Channel, refs: Refs) -> None:
    """One message read, then cancelled with the next read waiting."""
    await _read_and_cancel(channel, refs, "/leak.Probe/Endless")


async def stream_cancelled_swallowed(channel: Channel, refs: Refs) -> None:
    """The same against a handler that swallows its cancellation."""
    await _read_and_cancel(channel, refs, "/leak.Probe/Swallowing")


async def _read_and_cancel(channel: Channel, refs: Refs, method: str) -> None:
    call = _unary_stream(channel, method)(b"x")
    refs.append(weakref.ref(call))
    await call.read()
    waiting = asyncio.ensure_future(call.read())
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


Scenario = Callable[[Channel, Refs], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {
    run.__name__: run
    for run in (
        unary_awaited,
        unary_deadline,
        unary_cancelled,
        unary_abandoned,
        stream_abandoned,
        stream_cancelled,
        stream_cancelled_swallowed,
    )
}

KNOWN = {"unary_abandoned": "not judged: kept in every version, so nothing here drops a call"}


async def measure(name: str, calls: int) -> Row:
    """Run one scenario `calls` times after a warm-up of a tenth of that."""
    with subprocess.Popen(  # noqa: ASYNC220, S603 - our own file, as another process, started once
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        port = int(server.stdout.readline())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await _drive(SCENARIOS[name], channel, max(calls // 10, IN_FLIGHT))
            await _quiet(channel)
            client_before, (_, server_before) = _resident_bytes(), await _server_state(channel)
            gc.disable()  # so that what reference counting alone frees is visible
            refs = await _drive(SCENARIOS[name], channel, calls)
            before_gc = _alive(refs)
            gc.enable()
            gc.collect()
            await _quiet(channel)
            server_open, server_after = await _server_state(channel)
            row = Row(
                scenario=name,
                calls=calls,
                alive_before_gc=before_gc,
                alive_after_gc=_alive(refs),
                server_open=server_open,
                client_bytes=(_resident_bytes() - client_before) / calls,
                server_bytes=(server_after - server_before) / calls,
            )
        server.stdin.close()
        return row


async def _drive(scenario: Scenario, channel: Channel, calls: int) -> Refs:
    refs: Refs = []
    for start in range(0, calls, IN_FLIGHT):
        await asyncio.gather(*(scenario(channel, refs) for _ in range(min(IN_FLIGHT, calls - start))))
        await _unary_unary(channel, "/leak.Probe/Echo")(b"barrier")
    return refs


async def _quiet(channel: Channel) -> None:
    """Let cancellations travel: round trips until the server's open handlers stop changing."""
    last, same = -1, 0
    while same < 5:
        now, _ = await _server_state(channel)
        last, same = now, same + 1 if now == last else 0


async def _server_state(channel: Channel) -> tuple[int, int]:
    _settle()
    handlers, resident = json.loads(await _unary_unary(channel, "/leak.Probe/Open")(b""))
    return handlers, resident


def _alive(refs: Refs) -> int:
    return sum(ref() is not None for ref in refs)


def _settle() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident_bytes() -> int:
    _settle()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the table ---------------------------------------------------------------------------------------------


def _run_apart(name: str, calls: int) -> Row:
    command = [sys.executable, __file__, "--one", name, "-n", str(calls)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own file
    return Row(**json.loads(done.stdout))


def _faults(row: Row, bound: float) -> list[str]:
    if row.scenario in KNOWN:
        return []
    faults = []
    if row.alive_after_gc > IN_FLIGHT:
        faults.append("calls never collected")
    if row.server_open > IN_FLIGHT:
        faults.append("handlers never cancelled")
    if row.client_bytes > bound:
        faults.append("client memory")
    if row.server_bytes > bound:
        faults.append("server memory")
    return faults


def main() -> int:
    """Print the table; 0 when every row is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-n", "--calls", type=int, default=20_000)
    parser.add_argument("-s", "--scenario", action="append", choices=SCENARIOS, help="default: all")
    parser.add_argument("--bound", type=float, default=1_500.0, help="bytes of growth allowed per call")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(_serve())
        return 0
    if args.one:
        print(json.dumps(asdict(asyncio.run(measure(args.one, args.calls)))))
        return 0
    print(f"grpcio {grpc.__version__}, Python {sys.version.split()[0]}, {args.calls} calls per scenario")
    heads = ("scenario", "alive", "alive+gc", "open", "client B/call", "server B/call")
    print("{:<28}{:>8}{:>10}{:>8}{:>15}{:>15}".format(*heads))
    failed = False
    for name in args.scenario or SCENARIOS:
        row = _run_apart(name, args.calls)
        faults = _faults(row, args.bound)
        failed |= bool(faults)
        print(
            f"{name:<28}{row.alive_before_gc:>8}{row.alive_after_gc:>10}{row.server_open:>8}"
            f"{row.client_bytes:>15.0f}{row.server_bytes:>15.0f}  {', '.join(faults) or KNOWN.get(name, '')}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
