"""Channels to other services: TLS and token, and coming back after a restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from tests.integration.platform.probe import Probe, Stub, make_server, running
from venuemesh.channels import open_channel
from venuemesh.secrets import Secret
from venuemesh.serving import ServingError


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for `localhost` and its key, valid for an hour."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


async def test_call_when_tls_and_token_are_set_needs_both(tmp_path: Path) -> None:
    """What a binding wider than loopback must have is really in force."""
    cert_file, key_file = self_signed(tmp_path)
    token_file = tmp_path / "token"
    token_file.write_text("s3cret")
    token_file.chmod(0o600)
    files = {"tls_cert_file": cert_file, "tls_key_file": key_file, "token_file": token_file}
    async with running(**files, host="localhost") as mesh, asyncio.timeout(20):
        target = f"localhost:{mesh.server.port}"
        credentials = grpc.ssl_channel_credentials(cert_file.read_bytes())
        async with open_channel(target, credentials=credentials, token=Secret("s3cret")) as channel:
            assert (await Stub(channel).read(StringValue(value="x"))).value == "x"
        async with open_channel(target, credentials=credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Stub(channel).read(StringValue())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        async with open_channel(target, token=Secret("s3cret")) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Stub(channel).read(StringValue(), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("missing", ["tls_cert_file", "token_file"])
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
