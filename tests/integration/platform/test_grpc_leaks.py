"""grpc.aio keeps nothing of a call that is over; `benchmarks/grpc_leak.py` measures the same at length."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

CALLS = 300


class Probe:
    """A handler that answers once and then hangs, and knows how many of its calls are open."""

    def __init__(self) -> None:
        self.open = 0
        self.all_closed = asyncio.Event()

    async def endless(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.open += 1
        self.all_closed.clear()
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            self.open -= 1
            if self.open == 0:
                self.all_closed.set()

    async def hang(self, request: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return request


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def channel(probe: Probe) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    handlers = {
        "Endless": grpc.unary_stream_rpc_method_handler(probe.endless),
        "Hang": grpc.unary_unary_rpc_method_handler(probe.hang),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("leak.Probe", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(None)


def alive(refs: list[weakref.ref[Any]]) -> int:
    gc.collect()
    return sum(ref() is not None for ref in refs)


async def test_server_stream_when_reader_drops_it_is_collected_and_its_handler_ends(
    channel: grpc.aio.Channel, probe: Probe
) -> None:
    """A forgotten stream must not run until the channel closes: the regression of grpcio 1.83."""
    refs = []
    for _ in range(CALLS):
        call = channel.unary_stream("/leak.Probe/Endless")(b"x")
        assert await call.read() == b"x"
        refs.append(weakref.ref(call))
        del call
    assert alive(refs) == 0
    async with asyncio.timeout(60):
        await probe.all_closed.wait()


async def test_server_stream_when_cancelled_is_freed_and_its_handler_ends(
    channel: grpc.aio.Channel, probe: Probe
) -> None:
    """An explicitly cancelled stream leaves no object on either side."""
    refs = []
    for _ in range(CALLS):
        call = channel.unary_stream("/leak.Probe/Endless")(b"x")
        assert await call.read() == b"x"
        call.cancel()
        refs.append(weakref.ref(call))
        del call
    assert alive(refs) == 0
    async with asyncio.timeout(60):
        await probe.all_closed.wait()


async def test_unary_call_when_its_deadline_passes_is_freed(channel: grpc.aio.Channel) -> None:
    """The way this project bounds its calls leaves no object behind."""
    refs = []
    for _ in range(CALLS):
        call = channel.unary_unary("/leak.Probe/Hang")(b"x", timeout=0.001)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        refs.append(weakref.ref(call))
        del call
    assert alive(refs) == 0
