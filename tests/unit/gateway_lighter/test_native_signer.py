"""Finding, pinning and self-testing the official library, and falling back: without the library itself."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway_lighter import native_signer
from gateway_lighter.native_signer import (
    NativeLibrary,
    NativeSigner,
    NativeUnavailable,
    check_library,
    find_library,
    open_signer,
)
from gateway_lighter.signing import PureSigner
from gateway_lighter.transactions import CreateOrder
from tests.unit.gateway_lighter.support import ACCOUNT, API_KEY, CHAIN, KEY, ORDER, SECRET
from venuemesh.errors import InvalidOrder

NAME = "lighter-signer-linux-amd64.so"
IDENTITY: dict[str, Any] = {"chain_id": CHAIN, "account_index": ACCOUNT, "api_key_index": API_KEY}


class PureLibrary:
    """The library's calls, answered by the pure path; `twist` makes it lie."""

    def __init__(self, twist: str = "") -> None:
        self.twist = twist
        self._signers: dict[tuple[int, int], PureSigner] = {}

    def create_client(self, key: Any, *, chain_id: int, account_index: int, api_key_index: int) -> None:
        signer = PureSigner(key, chain_id=chain_id, account_index=account_index, api_key_index=api_key_index)
        self._signers[account_index, api_key_index] = signer

    def sign(
        self, transaction: Any, attributes: Any, *, nonce: int, account_index: int, api_key_index: int
    ) -> tuple[str, str, str]:
        if self.twist == "refuses":
            raise InvalidOrder("no")
        if self.twist == "field" and isinstance(transaction, CreateOrder):
            transaction = type(transaction)(
                **{name: getattr(transaction, name) for name in transaction.__struct_fields__} | {"market_index": 0}
            )
        signer = self._signers[account_index, api_key_index]
        signed = signer.sign(transaction, nonce=nonce, expired_at_ms=77, attributes=attributes)
        tx_hash = "00" * 40 if self.twist == "hash" else signed.tx_hash
        info = "{" if self.twist == "json" else signed.tx_info
        if self.twist == "signature":
            info = info.replace('"Sig":"', '"Sig":"AAAA', 1).replace('==","', '","', 1)
        return info, tx_hash, ""

    def sign_token(self, deadline_s: int, *, account_index: int, api_key_index: int) -> str:
        text = self._signers[account_index, api_key_index].sign_token(deadline_s).reveal()
        return text[:-1] + ("0" if text[-1] != "0" else "1") if self.twist == "token" else text


def library(twist: str = "") -> NativeLibrary:
    """A stand-in with the library's calls."""
    return PureLibrary(twist)  # type: ignore[return-value]


def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, version: str = "1.1.8", content: bytes = b"") -> Path:
    """An installed distribution that holds one file."""
    path = tmp_path / NAME
    path.write_bytes(content)
    file = SimpleNamespace(name=NAME, locate=lambda: path)
    stale = SimpleNamespace(name="lighter-signer-linux.so", locate=lambda: tmp_path / "lighter-signer-linux.so")
    distribution = SimpleNamespace(version=version, files=[stale, file])
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: distribution)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return path


def test_self_test_passes_for_a_library_that_signs_what_is_asked() -> None:
    """Fields, hashes, signatures and a token."""
    check_library(library())


@pytest.mark.parametrize("twist", ["refuses", "field", "hash", "json", "signature", "token"])
def test_self_test_finds_a_library_that_lies(twist: str) -> None:
    """Another field, another hash, unreadable JSON, a bad signature, a bad token, a refusal."""
    with pytest.raises(NativeUnavailable, match="self-test"):
        check_library(library(twist))


def test_native_signer_reports_the_expiry_the_library_chose() -> None:
    """What was asked for is not honoured, and the caller can see it."""
    signer = NativeSigner(library(), KEY, **IDENTITY)
    assert signer.chooses_expiry
    assert signer.sign(ORDER, nonce=3, expired_at_ms=5).expired_at_ms == 77
    assert SECRET not in repr(signer)


@pytest.mark.parametrize("twist", ["field", "json"])
def test_native_signer_when_the_library_signs_something_else_gives_nothing_out(twist: str) -> None:
    """Each answer is compared with what was asked."""
    signer = NativeSigner(library(twist), KEY, **IDENTITY)
    with pytest.raises(InvalidOrder, match="signer library"):
        signer.sign(ORDER, nonce=3, expired_at_ms=5)


def test_library_with_the_pinned_version_and_digest_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file for this machine, not its stale neighbour."""
    path = installed(monkeypatch, tmp_path, content=b"library")
    monkeypatch.setattr(native_signer, "_DIGESTS", {NAME: hashlib.sha256(b"library").hexdigest()})
    assert find_library() == path


def test_library_with_another_digest_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An unknown binary is never loaded."""
    installed(monkeypatch, tmp_path, content=b"other")
    with pytest.raises(NativeUnavailable, match="not the pinned library"):
        find_library()


def test_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its interface is not stable."""
    installed(monkeypatch, tmp_path, version="1.1.9")
    with pytest.raises(NativeUnavailable, match=r"1\.1\.9"):
        find_library()


def test_library_on_an_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No build, no guess."""
    installed(monkeypatch, tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(NativeUnavailable, match="riscv64"):
        find_library()


def test_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    """The loader's own words."""
    path = tmp_path / NAME
    path.write_bytes(b"no library")
    with pytest.raises(NativeUnavailable, match="cannot be loaded"):
        NativeLibrary(path)


def test_open_signer_when_the_library_is_absent_falls_back_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning with the reason, and a working signer."""

    def absent() -> NativeLibrary:
        raise NativeUnavailable("lighter-sdk is not installed")

    monkeypatch.setattr(native_signer, "load_library", absent)
    with caplog.at_level(logging.INFO):
        signer = open_signer(KEY, **IDENTITY, native=True)
    assert isinstance(signer, PureSigner)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.__dict__["why_not_native"] == "lighter-sdk is not installed"
    assert SECRET not in caplog.text


def test_open_signer_is_pure_unless_the_library_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The library is not even looked for."""
    monkeypatch.setattr(native_signer, "load_library", lambda: pytest.fail("looked for"))
    with caplog.at_level(logging.INFO):
        assert isinstance(open_signer(KEY, **IDENTITY), PureSigner)
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_open_signer_with_the_library_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has passed its checks."""
    monkeypatch.setattr(native_signer, "load_library", library)
    assert isinstance(open_signer(KEY, **IDENTITY, native=True), NativeSigner)
