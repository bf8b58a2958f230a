"""The service config that clients ship says what the contract says, and clients take it as meant."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor

from clients.service_config import FILE, contract_services
from venuemesh.v1 import options_pb2

ROOT = Path(__file__).resolve().parents[2]
CONFIG: dict[str, Any] = json.loads(FILE.read_text())


def entries() -> dict[str, list[dict[str, Any]]]:
    """What the config says of each method, by full name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in CONFIG["methodConfig"]:
        for name in entry["name"]:
            found.setdefault(f"{name['service']}.{name['method']}", []).append(entry)
    return found


def methods() -> Iterator[MethodDescriptor]:
    for service in contract_services():
        yield from service.methods


def policy(method: MethodDescriptor) -> options_pb2.MethodPolicy:
    found: options_pb2.MethodPolicy = method.GetOptions().Extensions[options_pb2.policy]
    return found


def test_committed_file_is_what_the_contract_gives() -> None:
    """`make proto` was run after the last change of a policy."""
    done = subprocess.run([sys.executable, "clients/service_config.py", "--check"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_every_unary_method_has_one_entry_with_its_deadline_and_streams_have_none() -> None:
    """A stream is resumed by the client, which knows its position; it has no deadline either."""
    found = entries()
    unary = [one for one in methods() if not (one.client_streaming or one.server_streaming)]
    assert sorted(found) == sorted(one.full_name for one in unary)
    for method in unary:
        (entry,) = found[method.full_name]
        assert float(entry["timeout"].removesuffix("s")) * 1000 == policy(method).default_deadline_ms > 0


def test_reads_and_cancels_are_repeated_and_no_other_write_ever() -> None:
    """What may be repeated is what the contract calls a read, or safe and idempotent."""
    attempts = {name: found[0].get("retryPolicy", {}).get("maxAttempts", 1) for name, found in entries().items()}
    for method in methods():
        if method.full_name not in attempts:
            continue
        rule = policy(method)
        if rule.repeat == options_pb2.REPEAT_READ:
            wanted = 3
        elif rule.safety and rule.repeat == options_pb2.REPEAT_IDEMPOTENT:
            wanted = 5
        else:
            wanted = 1
        assert attempts[method.full_name] == wanted, method.full_name


@pytest.mark.parametrize("method", ["SubmitOrder", "SubmitOrderList", "BatchSubmitOrders", "ReplaceOrder"])
def test_submits_and_amendments_are_sent_once(method: str) -> None:
    """The rule by name, whatever their policy says."""
    (entry,) = entries()[f"venuemesh.v1.OrderService.{method}"]
    assert set(entry) == {"name", "timeout"}


def test_durations_and_codes_are_in_the_form_that_every_grpc_reads_alike() -> None:
    """grpc-js reads what is behind the point as nanoseconds: nine digits. Only UNAVAILABLE is repeated."""
    for entry in CONFIG["methodConfig"]:
        assert len(entry["timeout"].removesuffix("s").partition(".")[2]) == 9
        retry = entry.get("retryPolicy")
        if retry is not None:
            assert retry["retryableStatusCodes"] == ["UNAVAILABLE"]
            assert (retry["initialBackoff"], retry["maxBackoff"]) == ("0.050s", "0.200s")
