"""Settings: accounts and keys in several spellings, environments that never mix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway_lighter.capabilities import capabilities
from gateway_lighter.keys import Wallet, load_wallets
from gateway_lighter.nonces import NonceFate
from gateway_lighter.settings import GatewaySettings
from tests.fakes import ManualClock
from tests.unit.gateway_lighter.support import SECRET
from venuemesh.errors import AuthenticationFailed
from venuemesh.settings import SettingsError
from venuemesh.transport.environment import Environment
from venuemesh.v1 import venue_pb2

OWNER = "0x" + "Aa" * 20
PREFIX = "GATEWAY_LIGHTER_"
ACCOUNT = {"account_id": "main", "account_index": 4242, "l1_address": OWNER, "keys": [{"index": 4, "file": "/run/k"}]}


def load(**environ: str) -> GatewaySettings:
    """Settings from an environment."""
    return GatewaySettings.load({PREFIX + key: value for key, value in environ.items()})


def test_defaults_reach_the_simulator_on_this_machine() -> None:
    """Without a word, no real venue is reached and no account is served."""
    settings = load()
    assert settings.environment is Environment.SIMULATOR
    assert (settings.url, settings.ws_url) == ("http://127.0.0.1:3002", "ws://127.0.0.1:3002/stream")
    assert (settings.chain_id, settings.accounts) == (304, ())


def test_accounts_by_name_and_by_json_are_the_same() -> None:
    """One account with one key, two spellings; the owner becomes lower case."""
    named = load(
        ACCOUNTS__MAIN__ACCOUNT_INDEX="4242", ACCOUNTS__MAIN__L1_ADDRESS=OWNER, ACCOUNTS__MAIN__KEYS__4__FILE="/run/k"
    )
    listed = load(ACCOUNTS=json.dumps([ACCOUNT]))
    assert named.accounts == listed.accounts
    assert named.accounts[0].l1_address == OWNER.lower()
    assert [key.index for key in named.accounts[0].keys] == [4]


@pytest.mark.parametrize(
    "changes",
    [
        {"account_id": "a b"},
        {"account_index": 0},
        {"account_index": 2**48 - 1},
        {"l1_address": "0x12"},
        {"keys": []},
        {"keys": [{"index": 255, "file": "/k"}]},
        {"keys": [{"index": 0, "file": "/k"}]},
        {"keys": [{"index": 4, "file": "/k"}, {"index": 4, "file": "/l"}]},
    ],
)
def test_impossible_accounts_are_refused(changes: dict[str, Any]) -> None:
    """Out of range, doubled or of the venue's own applications."""
    with pytest.raises(SettingsError):
        load(ACCOUNTS=json.dumps([ACCOUNT | changes]))


def test_one_account_cannot_be_served_twice() -> None:
    """Neither under two names nor two under one."""
    for changes in ({"account_id": "other"}, {"account_index": 7}):
        with pytest.raises(SettingsError):
            load(ACCOUNTS=json.dumps([ACCOUNT, ACCOUNT | changes]))


@pytest.mark.parametrize(
    "environ",
    [
        {"ENVIRONMENT": "mainnet"},
        {"ENVIRONMENT": "testnet", "API_URL": "https://mainnet.zklighter.elliot.ai"},
        {"API_URL": "https://testnet.zklighter.elliot.ai"},
        {"ENVIRONMENT": "testnet", "CRASH_POINT": "intent_written"},
    ],
)
def test_environments_never_mix(environ: dict[str, str]) -> None:
    """Real money needs its own word, and a host must be of the environment."""
    with pytest.raises(SettingsError):
        load(**environ)
    assert load(ENVIRONMENT="mainnet", ALLOW_MAINNET="true").url == "https://mainnet.zklighter.elliot.ai"


def test_capabilities_name_only_what_works() -> None:
    """Batches of 15, groups and a switch the venue keeps itself."""
    record = capabilities(settle_delay_s=5.0, book_stale_after_s=60.0)
    assert (record.max_batch_orders, record.max_batch_cancels) == (15, 15)
    offered = {record.brackets, record.twap, record.dead_mans_switch, record.cancel_all}
    assert offered == {venue_pb2.PROVISION_NATIVE}
    assert (record.twap_bounded, record.twap_randomize) == (True, False)
    assert record.dead_mans_switch_cancels_stops
    assert (record.min_good_till.seconds, record.max_good_till.seconds) == (330, 30 * 86_400)
    assert record.amend_mode == venue_pb2.AMEND_MODE_IN_PLACE
    assert (record.spot, record.book.sequenced, record.settle_delay.seconds) == (False, True, 5)


# --- keys --------------------------------------------------------------------------------------------------


def wallet(folder: Path, clock: ManualClock) -> Wallet:
    """The wallet of an account with keys 4 and 5."""
    keys = []
    for index in (4, 5):
        file = folder / f"{index}.key"
        file.write_text(SECRET)
        file.chmod(0o600)
        keys.append({"index": index, "file": str(file)})
    settings = GatewaySettings.model_validate({"accounts": [ACCOUNT | {"keys": keys}]})
    return load_wallets(settings, clock)["main"]


def test_reservation_is_taken_once_and_keys_take_turns(tmp_path: Path) -> None:
    """The journalled nonce is the one that is sent; two reservations use two keys."""
    clock = ManualClock()
    found = wallet(tmp_path, clock)
    first, second = (found.reserve(clock.now_ns() + 10**10) for _ in range(2))
    leases = [lease for reservation in (first, second) for lease in found.take(reservation)]
    assert [lease.number for lease in leases] == [first.nonce, second.nonce]
    assert {lease.api_key_index for lease in leases} == {4, 5}
    (another,) = found.take(first)
    assert another.number not in (first.nonce, second.nonce)


def test_overtaken_reservation_is_replaced_by_a_later_nonce(tmp_path: Path) -> None:
    """The venue would refuse it: a later one of the same key has been taken already."""
    clock = ManualClock()
    found = wallet(tmp_path, clock)
    early = [found.reserve(clock.now_ns() + 10**10) for _ in range(2)]
    for _ in range(2):
        found.pool.settle(*found.take(None), NonceFate.SPENT)
    (later,) = found.take(early[0])
    assert later.nonce > early[0].nonce >> 8


def test_batch_takes_one_key_and_nonces_without_a_gap(tmp_path: Path) -> None:
    """From the journalled one on where that is still the last, else all of them anew."""
    clock = ManualClock()
    found = wallet(tmp_path, clock)
    kept = found.reserve(clock.now_ns() + 10**10)
    run = found.take(kept, 15)
    assert run[0].number == kept.nonce
    assert [lease.nonce for lease in run] == list(range(run[0].nonce, run[0].nonce + 15))
    assert len({lease.api_key_index for lease in run}) == 1
    # The other key's turn; then this one's again, with something taken behind the reservation.
    early = [found.reserve(clock.now_ns() + 10**10) for _ in range(4)]
    second = found.take(early[0], 3)
    assert [lease.nonce - second[0].nonce for lease in second] == [0, 1, 2]
    assert second[0].number > early[0].nonce


def test_unused_reservations_are_forgotten(tmp_path: Path) -> None:
    """A journal that failed must not leave keys busy for ever."""
    clock = ManualClock()
    found = wallet(tmp_path, clock)
    found.reserve(clock.now_ns())
    clock.advance(120.0)
    found.reserve(clock.now_ns())
    assert sum(found.pool.source(index).outstanding for index in (4, 5)) == 1


def test_file_without_a_key_is_named_and_not_shown(tmp_path: Path) -> None:
    """The error says which file; never what is in it."""
    file = tmp_path / "bad.key"
    file.write_text("not-a-key")
    file.chmod(0o600)
    settings = GatewaySettings.model_validate({"accounts": [ACCOUNT | {"keys": [{"index": 4, "file": str(file)}]}]})
    with pytest.raises(AuthenticationFailed, match=r"bad\.key") as caught:
        load_wallets(settings, ManualClock())
    assert "not-a-key" not in str(caught.value)
