"""TLS between services, and certificates replaced while calls run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives import serialization
from google.protobuf.wrappers_pb2 import StringValue

from tests.integration.platform.probe import Probe, Stub, make_server, running
from venuemesh.channels import open_channel
from venuemesh.security import files
from venuemesh.security.certificates import ChannelFiles
from venuemesh.security.local_certificates import LocalAuthority, replace_file, write_certificates
from venuemesh.serving import ServingError

SERVICES = ("server", "router", "stranger")
HOSTS = ("localhost", "127.0.0.1")


def certify(folder: Path) -> None:
    write_certificates(folder, SERVICES, HOSTS, datetime.now(UTC))


def channel_files(folder: Path, name: str | None = None) -> ChannelFiles:
    if name is None:
        return ChannelFiles(ca_file=folder / "ca.pem")
    return ChannelFiles(ca_file=folder / "ca.pem", cert_file=folder / f"{name}.pem", key_file=folder / f"{name}.key")


def server_settings(folder: Path) -> dict[str, object]:
    return {
        "tls_cert_file": folder / "server.pem",
        "tls_key_file": folder / "server.key",
        "tls_client_ca_file": folder / "ca.pem",
        "peers": ("router=read",),
    }


async def code_of(call: grpc.aio.UnaryUnaryCall[StringValue, StringValue]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_service_is_known_by_its_certificate_and_held_to_its_scopes(tmp_path: Path) -> None:
    """The router may read and not write; a stranger of the same root nothing; without a certificate nobody connects."""
    certify(tmp_path)
    async with running(**server_settings(tmp_path)) as mesh, asyncio.timeout(30):
        target = f"127.0.0.1:{mesh.server.port}"
        async with open_channel(target, tls=channel_files(tmp_path, "router")) as channel:
            assert await code_of(Stub(channel).read(StringValue())) is grpc.StatusCode.OK
            assert await code_of(Stub(channel).write(StringValue())) is grpc.StatusCode.PERMISSION_DENIED
        async with open_channel(target, tls=channel_files(tmp_path, "stranger")) as channel:
            assert await code_of(Stub(channel).read(StringValue())) is grpc.StatusCode.UNAUTHENTICATED
        async with open_channel(target, tls=channel_files(tmp_path)) as channel:
            assert await code_of(Stub(channel).read(StringValue(), timeout=5)) is grpc.StatusCode.UNAVAILABLE


async def test_certificate_of_another_root_does_not_connect(tmp_path: Path) -> None:
    """Whoever can make certificates of the same names is still nobody."""
    certify(tmp_path)
    foreign = tmp_path / "foreign"
    certify(foreign)
    mixed = ChannelFiles(ca_file=tmp_path / "ca.pem", cert_file=foreign / "router.pem", key_file=foreign / "router.key")
    async with (
        asyncio.timeout(30),
        running(**server_settings(tmp_path)) as mesh,
        open_channel(f"127.0.0.1:{mesh.server.port}", tls=mixed) as channel,
    ):
        assert await code_of(Stub(channel).read(StringValue(), timeout=5)) is grpc.StatusCode.UNAVAILABLE


async def test_certificates_replaced_under_load_fail_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, server and client are all replaced three times while calls and a stream run; new connections use the new.

    The old root stays in the bundle for one round, as an operator would do it, so that both sides trust both.
    """
    monkeypatch.setattr(files, "CHECK_S", 0.0)
    certify(tmp_path)
    old_root = (tmp_path / "ca.pem").read_bytes()
    failures: list[grpc.aio.AioRpcError] = []
    done = asyncio.Event()
    calls = 0

    async with running(**server_settings(tmp_path)) as mesh, asyncio.timeout(60):
        target = f"127.0.0.1:{mesh.server.port}"
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with open_channel(target, tls=channel_files(tmp_path, "router"), options=options) as channel:
            stub = Stub(channel)
            stream = stub.watch(StringValue())
            assert (await stream.read()).value == "hello"

            async def load() -> None:
                nonlocal calls
                while not done.is_set():
                    try:
                        await stub.read(StringValue(value="x"), timeout=10)
                        calls += 1
                    except grpc.aio.AioRpcError as error:
                        failures.append(error)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(4):
                    tasks.create_task(load())
                for _ in range(3):
                    old_root = rotate(tmp_path, old_root)
                    seen = calls
                    while calls < seen + 50 and not failures:
                        await asyncio.sleep(0)
                done.set()
            # A stranger to the channel above must shake hands anew, and so meets the present certificate.
            async with open_channel(target, tls=channel_files(tmp_path, "router"), options=options) as fresh:
                assert await code_of(Stub(fresh).read(StringValue())) is grpc.StatusCode.OK
            mesh.probe.queue.put_nowait("still here")
            assert (await stream.read()).value == "still here"
            stream.cancel()
    assert not failures
    assert calls >= 150


def rotate(folder: Path, old_root: bytes) -> bytes:
    """Replace everything, the new root trusted before anything is signed by it; returns the new root."""
    now = datetime.now(UTC)
    authority = LocalAuthority.create(now)
    root = authority.certificate.public_bytes(serialization.Encoding.PEM)
    replace_file(folder / "ca.pem", old_root + root)
    for service in SERVICES:
        certificate, key = authority.issue(service, HOSTS, now, timedelta(hours=1))
        replace_file(folder / f"{service}.key", key, mode=0o600)
        replace_file(folder / f"{service}.pem", certificate)
    return root


async def test_start_with_a_certificate_of_another_key_refuses(tmp_path: Path) -> None:
    """Found at the start, not at the first caller."""
    certify(tmp_path)
    replace_file(tmp_path / "server.key", (tmp_path / "router.key").read_bytes())
    server, _, _ = make_server(Probe(), tls_cert_file=tmp_path / "server.pem", tls_key_file=tmp_path / "server.key")
    with pytest.raises(ServingError, match="no certificate with its key"):
        await server.start()
