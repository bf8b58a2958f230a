"""Channels to other services: TLS and token, and coming back after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from tests.integration.platform.probe import Probe, Stub, make_server, running
from venuemesh.channels import open_channel
from venuemesh.serving import ServingError


@pytest.mark.parametrize("missing", ["tls_cert_file", "token_keys_file"])
async def test_start_when_a_file_is_missing_refuses_and_names_it(tmp_path: Path, missing: str) -> None:
    """No server is better than one without its protection."""
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    files = {"tls_cert_file": cert_file, "tls_key_file": key_file} if missing == "tls_cert_file" else {}
    server, _, _ = make_server(Probe(), **(files or {missing: tmp_path / "absent"}))
    with pytest.raises(ServingError, match="No such file"):
        await server.start()


async def test_channel_when_the_service_restarts_finds_it_again() -> None:
    """Neither side needs a restart because of the other."""
    async with running() as mesh, asyncio.timeout(30):
        port = mesh.server.port
        channel = open_channel(f"127.0.0.1:{port}", options=(("grpc.use_local_subchannel_pool", 1),))
        async with channel:
            stub = Stub(channel)
            assert (await stub.read(StringValue(value="1"))).value == "1"
            await mesh.server.stop_now()
            async with running(port=port):
                answer = await stub.read(StringValue(value="2"), wait_for_ready=True, timeout=20)
                assert answer.value == "2"
