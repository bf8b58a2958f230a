"""Make `clients/service_config.json` of the policies that the contract's methods declare, or check that it is current.

python clients/service_config.py           write
python clients/service_config.py --check   exit 1 when the committed file differs

The result is a gRPC service config: a client that takes one (Go, Java, Python, TypeScript) has the deadlines and
repeats of the contract without naming them per call. Rules:

- every unary method gets its `default_deadline_ms` as time-out;
- reads are repeated on UNAVAILABLE twice, cancels and the kill switch four times, which is the most that gRPC allows;
- no other write is repeated: what a lost answer means is for the caller to find out, by reading;
- streams get nothing: only the client knows the position to resume after.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

FILE = Path(__file__).resolve().parent / "service_config.json"
sys.path.insert(0, str(FILE.parents[1]))

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor  # noqa: E402

import venuemesh.v1  # noqa: E402
from venuemesh.v1 import options_pb2  # noqa: E402

READ_ATTEMPTS = 3
CANCEL_ATTEMPTS = 5
"""gRPC lowers anything above to this."""
INITIAL_BACKOFF = "0.050s"
MAX_BACKOFF = "0.200s"
# Tokens are shared by all methods of a channel and repeats stop at half of them. gRPC's usual ten would let a few lost
# reads take the repeats from cancels.
RETRY_THROTTLING = {"maxTokens": 100, "tokenRatio": 0.1}


def contract_services() -> list[ServiceDescriptor]:
    """Every service of the contract, by name."""
    modules = [f"venuemesh.v1.{module.name}" for module in iter_modules(venuemesh.v1.__path__)]
    found = [
        service
        for name in modules
        if name.endswith("_pb2")
        for service in import_module(name).DESCRIPTOR.services_by_name.values()
    ]
    return sorted(found, key=lambda service: service.full_name)


def rules_of(method: MethodDescriptor) -> dict[str, Any]:
    """The entry of one method without its name; empty for a stream."""
    policy = method.GetOptions().Extensions[options_pb2.policy]
    if method.client_streaming or method.server_streaming:
        return {}
    seconds, milliseconds = divmod(policy.default_deadline_ms, 1000)
    # All nine digits: grpc-js 1.14 takes what is behind the point for a count of nanoseconds.
    rules: dict[str, Any] = {"timeout": f"{seconds}.{milliseconds:03d}000000s"}
    attempts = 1
    if policy.repeat == options_pb2.REPEAT_READ:
        attempts = READ_ATTEMPTS
    elif policy.repeat == options_pb2.REPEAT_IDEMPOTENT and policy.safety:
        attempts = CANCEL_ATTEMPTS
    if attempts > 1:
        rules["retryPolicy"] = {
            "maxAttempts": attempts,
            "initialBackoff": INITIAL_BACKOFF,
            "maxBackoff": MAX_BACKOFF,
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
    return rules


def service_config(services: Iterable[ServiceDescriptor]) -> dict[str, Any]:
    """The config of these services; methods of the same rules share an entry."""
    entries: dict[str, dict[str, Any]] = {}
    for service in services:
        for method in service.methods:
            rules = rules_of(method)
            if rules:
                entry = entries.setdefault(json.dumps(rules), {"name": [], **rules})
                entry["name"].append({"service": service.full_name, "method": method.name})
    return {"methodConfig": list(entries.values()), "retryThrottling": RETRY_THROTTLING}


def rendered() -> str:
    """The file's text."""
    return json.dumps(service_config(contract_services()), indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The service config of the contract.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args(arguments).check:
        FILE.write_text(rendered())
        return 0
    if FILE.exists() and FILE.read_text() == rendered():
        return 0
    print(f"stale: {FILE.name}; run `make proto`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
