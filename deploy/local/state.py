"""The folder a local mesh lives in: lock, logs, JetStream's data, and the trading keys made for it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway_lighter.schnorr import PrivateKey
from hypercore.signing import SecretKey

LIGHTER_ACCOUNT_INDEX = 4242
LIGHTER_KEY_INDEX = 4
_WIPED = ("logs", "jetstream", "secrets", "accounts", "tls")


class StateBusy(Exception):
    """Another supervisor uses the folder; the text names its process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingAccount:
    """A simulated account and the agent that may trade it.

    Args:
        address: of the account; it was drawn at random and nobody has its key, so only the agent can act.
        agent_address: approved by the simulator at its start.
        agent_key_file: holds the agent's key, readable by the owner alone.
    """

    address: str
    agent_address: str
    agent_key_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LighterAccount:
    """A simulated account of Lighter and the API key that trades it.

    Args:
        owner: the Ethereum address it belongs to; drawn at random, nobody has its key.
        public_key: of the API key, 80 hex digits; known to the simulator at its start.
        key_file: holds the API key, readable by the owner alone.
    """

    account_index: int
    owner: str
    key_index: int
    public_key: str
    key_file: Path


class StateFolder:
    """Paths below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @property
    def logs(self) -> Path:
        """Log files, `<service>.log`."""
        return self.root / "logs"

    @property
    def jetstream(self) -> Path:
        """What nats-server stores."""
        return self.root / "jetstream"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; the system lets go of it however this process ends.

        Raises:
            StateBusy: another process holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateBusy(f"a mesh is up in {self.root} (process {self._holder()}); `down` stops it") from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def running(self) -> int | None:
        """Process id of the supervisor that holds the folder; None when nobody does."""
        try:
            with (self.root / "lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return self._holder()
        return None

    def _holder(self) -> int | None:
        text = (self.root / "lock").read_text().strip()
        return int(text) if text.isdigit() else None

    def wipe(self) -> None:
        """Forget what earlier starts left; touches only what this class makes."""
        for name in _WIPED:
            shutil.rmtree(self.root / name, ignore_errors=True)

    def trading_account(self, venue: str) -> TradingAccount:
        """The account at `venue`, made at the first call and kept."""
        record = self.root / "accounts" / f"{venue}.json"
        key_file = self.root / "secrets" / f"{venue}_agent.key"
        if not (record.exists() and key_file.exists()):
            self._make_account(record, key_file)
        fields = json.loads(record.read_text())
        return TradingAccount(address=fields["address"], agent_address=fields["agent_address"], agent_key_file=key_file)

    def lighter_account(self, venue: str) -> LighterAccount:
        """The account at a Lighter venue, made at the first call and kept."""
        record = self.root / "accounts" / f"{venue}.json"
        key_file = self.root / "secrets" / f"{venue}_api.key"
        if not (record.exists() and key_file.exists()):
            # 39 random bytes and a zero: below the order of the curve whatever was drawn.
            key = secrets.token_hex(39) + "00"
            _write_secret(key_file, key)
            _write_record(record, owner=f"0x{secrets.token_hex(20)}", public_key=PrivateKey(key).public_key.hex())
        fields = json.loads(record.read_text())
        return LighterAccount(
            account_index=LIGHTER_ACCOUNT_INDEX,
            owner=fields["owner"],
            key_index=LIGHTER_KEY_INDEX,
            public_key=fields["public_key"],
            key_file=key_file,
        )

    def _make_account(self, record: Path, key_file: Path) -> None:
        key = secrets.token_hex(32)
        _write_secret(key_file, key)
        _write_record(record, address=f"0x{secrets.token_hex(20)}", agent_address=SecretKey(key).address)


def _write_secret(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as open_file:
        open_file.write(text)


def _write_record(file: Path, **fields: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(fields, indent=2))
