"""Health for whoever can show no certificate: a listener of its own that serves grpc.health.v1 and nothing else.

Kubernetes' gRPC probes speak plain text and reach a container at its pod's address, so they cannot use the service's
own port. This one tells a stranger whether the service serves, and no more; it is off unless it gets a port.

    python -m venuemesh.probing 127.0.0.1:8086 live        exits 0 when SERVING, else 1 with the reason
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

PROBE_PORT = 8086
LIVE = "live"
MAX_CALLS = 64
"""At once, watches among them; further ones are refused with RESOURCE_EXHAUSTED."""
MAX_REQUEST_BYTES = 1_024
PROBE_TIMEOUT_S = 2.0


class ProbeServer:
    """A plain-text server of one health servicer, which it shares with the service's own server."""

    def __init__(self, servicer: health_aio.HealthServicer) -> None:
        options = (
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.max_concurrent_streams", MAX_CALLS),
        )
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)

    async def start(self, address: str) -> int:
        """Bind and serve; returns the bound port.

        Raises:
            RuntimeError: the address is taken or not ours.
        """
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            await self.stop()
            raise
        await self._server.start()
        return port

    async def stop(self) -> None:
        """At once: a probe that is cut off asks again."""
        await self._server.stop(None)


def probe(address: str, name: str) -> str:
    """Ask once; the status' name, or why there is none."""
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=name)
            stub: Any = health_pb2_grpc.HealthStub(channel)  # the type stubs lack `Check`
            reply = stub.Check(request, timeout=PROBE_TIMEOUT_S)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    answer: str = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the name is SERVING, else 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m venuemesh.probing", description="Ask for the health of a service.")
    parser.add_argument("address", nargs="?", default=f"127.0.0.1:{PROBE_PORT}", help="host:port, plain text")
    parser.add_argument("name", nargs="?", default=LIVE, help="health name; live without one")
    options = parser.parse_args(arguments)
    answer = probe(options.address, options.name)
    if answer == "SERVING":
        return 0
    sys.stderr.write(f"{options.address} {options.name!r}: {answer}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
