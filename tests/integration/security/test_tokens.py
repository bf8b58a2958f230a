"""Tokens at a real server: who is admitted, how far, and for how long."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from tests.integration.platform.probe import running
from venuemesh.clock import SystemClock
from venuemesh.secrets import Secret, read_secret
from venuemesh.security import files, grants
from venuemesh.security.__main__ import add_key, main, mint_from
from venuemesh.security.passing import caller_token
from venuemesh.security.tokens import narrow

CODE = grpc.StatusCode


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A key file with one key."""
    path = tmp_path / "token.keys"
    add_key(path, "first")
    return path


def headers(token: Secret) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token.reveal()}"),)


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_call_needs_a_token_of_its_scope_and_health_needs_none(keys: Path) -> None:
    """Unary and stream alike; the text says which scope is missing."""
    reader = mint_from(keys, "reader", ["scopes=read"])
    async with running(token_keys_file=keys) as mesh, asyncio.timeout(60):
        for wrong in ((), (("authorization", "Bearer vm1.x"),), (("authorization", "Basic x"),)):
            assert (await refusal(mesh.stub.read(StringValue(), metadata=wrong))).code() is CODE.UNAUTHENTICATED
            stream = mesh.stub.watch(StringValue(), metadata=wrong)
            assert (await refusal(stream.read())).code() is CODE.UNAUTHENTICATED
        await mesh.stub.read(StringValue(), metadata=headers(reader))
        stream = mesh.stub.watch(StringValue(), metadata=headers(reader))
        assert (await stream.read()).value == "hello"
        stream.cancel()
        denied = await refusal(mesh.stub.write(StringValue(), metadata=headers(reader)))
        assert denied.code() is CODE.PERMISSION_DENIED
        assert "needs the scope trade; the token grants read" in str(denied.details())
        chat = mesh.stub.chat(metadata=headers(reader))
        await chat.done_writing()
        assert (await refusal(chat.read())).code() is CODE.PERMISSION_DENIED
        await mesh.channel.unary_unary("/grpc.health.v1.Health/Check")(b"")


async def test_stream_ends_when_its_token_expires(keys: Path) -> None:
    """A stream opened a moment before must not live on for days; the reader resumes with a new token."""
    now_s = SystemClock().now_ns() // 10**9
    token = mint_from(keys, "reader", ["scopes=read", f"before={grants.time_text((now_s + 2) * 10**9)}"])
    async with running(token_keys_file=keys) as mesh, asyncio.timeout(60):
        stream = mesh.stub.watch(StringValue(), metadata=headers(token))
        assert (await stream.read()).value == "hello"
        ended = await refusal(stream.read())
        assert ended.code() is CODE.UNAUTHENTICATED
        assert "expired" in str(ended.details())
        await mesh.probe.ended.wait()
        again = await refusal(mesh.stub.read(StringValue(), metadata=headers(token)))
        assert again.code() is CODE.UNAUTHENTICATED


async def test_key_added_and_old_key_removed_take_effect_without_a_restart(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both work while both are in the file; taking one out revokes its tokens, also those seen before."""
    monkeypatch.setattr(files, "CHECK_S", 0.0)
    old = mint_from(keys, "old", ["scopes=read"])
    async with running(token_keys_file=keys) as mesh, asyncio.timeout(60):
        await mesh.stub.read(StringValue(), metadata=headers(old))
        add_key(keys, "second")
        new = mint_from(keys, "new", ["scopes=read"])
        await mesh.stub.read(StringValue(), metadata=headers(new))
        await mesh.stub.read(StringValue(), metadata=headers(old))
        keys.write_text(read_secret(keys).reveal().splitlines()[0])
        await mesh.stub.read(StringValue(), metadata=headers(new))
        assert (await refusal(mesh.stub.read(StringValue(), metadata=headers(old)))).code() is CODE.UNAUTHENTICATED
        keys.write_text("broken")
        await mesh.stub.read(StringValue(), metadata=headers(new))


async def test_guessing_tokens_is_slowed_down_per_caller(keys: Path) -> None:
    """After some wrong ones even a right one has to wait, with the time named."""
    right = mint_from(keys, "reader", ["scopes=read"])
    async with running(token_keys_file=keys, failed_authentications=3) as mesh, asyncio.timeout(60):
        codes = [
            (await refusal(mesh.stub.read(StringValue(), metadata=(("authorization", f"Bearer {n}"),)))).code()
            for n in range(4)
        ]
        assert codes == [CODE.UNAUTHENTICATED] * 3 + [CODE.RESOURCE_EXHAUSTED]
        assert (await refusal(mesh.stub.read(StringValue(), metadata=headers(right)))).code() is CODE.RESOURCE_EXHAUSTED


async def test_grant_and_token_go_with_the_call_and_no_further(keys: Path) -> None:
    """What the handler calls on behalf of the caller shows the caller's token; the next call has its own."""
    seen: list[tuple[str | None, str | None]] = []

    async def look(request: StringValue) -> StringValue:
        grant = grants.current()
        seen.append((None if grant is None else grant.subject, caller_token()))
        return request

    tokens = [mint_from(keys, name, ["scopes=read"]) for name in ("one", "two")]
    async with running(token_keys_file=keys) as mesh, asyncio.timeout(60):
        mesh.probe.on_unary = look
        for token in tokens:
            await mesh.stub.read(StringValue(), metadata=headers(token))
    assert seen == [(name, f"Bearer {token.reveal()}") for name, token in zip(("one", "two"), tokens, strict=True)]


async def test_token_is_in_no_log_line(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither of an admitted call nor of a refused one, at any level."""
    caplog.set_level(logging.DEBUG)
    good = mint_from(keys, "reader", ["scopes=read"])
    async with running(token_keys_file=keys) as mesh, asyncio.timeout(60):
        await mesh.stub.read(StringValue(), metadata=headers(good))
        await refusal(mesh.stub.write(StringValue(), metadata=headers(good)))
        broken = Secret(good.reveal()[:-3] + "AAA")
        await refusal(mesh.stub.read(StringValue(), metadata=headers(broken)))
    secret = read_secret(keys).reveal().split()[1]
    lines = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "rpc" in lines
    for hidden in (good.reveal(), broken.reveal(), good.reveal().rsplit(".", 1)[1], secret):
        assert hidden not in lines


def test_commands_make_narrow_and_show_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an operator types, from the first key to the token of a bot."""
    keys, token_file = tmp_path / "keys", tmp_path / "token"
    assert main(["keys", "add", str(keys), "k1"]) == 0
    assert keys.stat().st_mode & 0o077 == 0
    assert main(["token", "mint", str(keys), "desk", "scopes=read,trade"]) == 0
    token_file.write_text(capsys.readouterr().out)
    token_file.chmod(0o600)
    assert main(["token", "narrow", str(token_file), "accounts=main", "max_notional=1000"]) == 0
    token_file.write_text(capsys.readouterr().out)
    assert main(["token", "show", str(token_file)]) == 0
    assert capsys.readouterr().out == "subject=desk\nscopes=read,trade\naccounts=main\nmax_notional=1000\n"
    assert main(["token", "narrow", str(token_file), "colour=red"]) == 2
    assert "'colour' is no limit" in capsys.readouterr().err


def test_narrowing_a_file_that_is_no_token_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And shows nothing of it."""
    path = tmp_path / "token"
    path.write_text("something-else")
    assert main(["token", "narrow", str(path), "accounts=main"]) == 2
    assert "something-else" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="malformed"):
        narrow(Secret("something-else"), [])
