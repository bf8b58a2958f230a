"""The folder of a local mesh: who holds it, what is wiped, how keys are kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from deploy.local.state import StateBusy, StateFolder
from hypercore.signing import SecretKey


def test_trading_account_is_made_once_and_its_key_fits(tmp_path: Path) -> None:
    """A second start finds the account of the first; the file holds the key of the agent's address."""
    account = StateFolder(tmp_path).trading_account("hyperliquid")
    assert StateFolder(tmp_path).trading_account("hyperliquid") == account
    assert SecretKey(account.agent_key_file.read_text()).address == account.agent_address
    assert account.address != account.agent_address
    assert len(account.address) == 42


def test_trading_account_key_is_readable_by_the_owner_alone(tmp_path: Path) -> None:
    """Whatever the process's mask says."""
    former = os.umask(0)
    try:
        key_file = StateFolder(tmp_path).trading_account("hyperliquid").agent_key_file
    finally:
        os.umask(former)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700


def test_trading_account_key_appears_in_no_other_file(tmp_path: Path) -> None:
    """The record beside it holds addresses only."""
    account = StateFolder(tmp_path).trading_account("hyperliquid")
    key = account.agent_key_file.read_text()
    others = [file for file in tmp_path.rglob("*") if file.is_file() and file != account.agent_key_file]
    assert others
    assert not [file for file in others if key in file.read_text()]
    assert key not in repr(account)


def test_wipe_removes_what_the_mesh_made_and_nothing_else(tmp_path: Path) -> None:
    """A state folder may be somebody's home."""
    state = StateFolder(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    before = state.trading_account("hyperliquid")
    state.logs.mkdir()
    state.jetstream.mkdir()
    state.wipe()
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    assert state.trading_account("hyperliquid").address != before.address


def test_locked_when_held_refuses_a_second_holder_with_its_process(tmp_path: Path) -> None:
    """Two meshes over one JetStream folder would ruin it."""
    state = StateFolder(tmp_path)
    with state.locked():
        assert state.running() == os.getpid()
        with pytest.raises(StateBusy, match=f"process {os.getpid()}"), StateFolder(tmp_path).locked():
            pass
    assert state.running() is None
    with state.locked():
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_running_when_the_holder_died_is_nobody(tmp_path: Path) -> None:
    """A number in the file alone means nothing: only the lock does."""
    (tmp_path / "lock").write_text("1")
    assert StateFolder(tmp_path).running() is None
