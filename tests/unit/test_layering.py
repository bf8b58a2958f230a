"""Arrows point one way: who may import whom, and what a pure module may not touch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "venuemesh",
    "hypercore",
    "gateway_hyperliquid",
    "gateway_tradexyz",
    "gateway_lighter",
    "router",
    "aggregator",
    "simulator",
    "deploy",
)

ALLOWED = {
    "venuemesh": {"venuemesh"},
    "hypercore": {"hypercore", "venuemesh"},
    "gateway_hyperliquid": {"gateway_hyperliquid", "hypercore", "venuemesh"},
    "gateway_tradexyz": {"gateway_tradexyz", "hypercore", "venuemesh"},
    "gateway_lighter": {"gateway_lighter", "venuemesh"},
    "router": {"router", "venuemesh"},
    "aggregator": {"aggregator", "venuemesh"},
    # Its own implementation of the venue's protocol: agreement with ours is then a proof.
    "simulator": {"simulator", "venuemesh"},
    # The local mesh makes the keys its simulated venue is traded with.
    "deploy": {"deploy", "gateway_lighter", "hypercore", "venuemesh"},
}

IMPURE = {"asyncio", "httpx", "websockets", "grpc", "aiohttp", "nats", "os", "random", "time", "socket", "threading"}
PURE = [
    "venuemesh/money.py",
    "venuemesh/limits.py",
    "venuemesh/subjects.py",
    "venuemesh/resequence.py",
    "venuemesh/stream_options.py",
    "venuemesh/stream_queue.py",
    "venuemesh/transport/backoff.py",
    "venuemesh/transport/environment.py",
    "venuemesh/transport/in_flight.py",
    "venuemesh/transport/limiter.py",
    "venuemesh/transport/link.py",
    "venuemesh/transport/quality.py",
    "venuemesh/transport/redaction.py",
    "venuemesh/transport/subscriptions.py",
    "venuemesh/transport/retry_after.py",
    "venuemesh/order_session.py",
    "venuemesh/elements.py",
    "venuemesh/risk_board.py",
    "venuemesh/risk_scope.py",
    "venuemesh/cli/advice.py",
    "venuemesh/cli/choices.py",
    "venuemesh/cli/exits.py",
    "venuemesh/cli/grids.py",
    "venuemesh/cli/parsing.py",
    "venuemesh/cli/portfolio_copy.py",
    "venuemesh/cli/views",
    "venuemesh/gateway/venue.py",
    "venuemesh/gateway/attribution.py",
    "venuemesh/gateway/audit_entry.py",
    "venuemesh/gateway/orders.py",
    "venuemesh/gateway/order_wire.py",
    "venuemesh/gateway/positions.py",
    "venuemesh/gateway/rules.py",
    "venuemesh/gateway/evidence.py",
    "venuemesh/gateway/facts.py",
    "venuemesh/gateway/account_fold.py",
    "venuemesh/gateway/readable.py",
    "venuemesh/gateway/session_book.py",
    "venuemesh/gateway/seen.py",
    "venuemesh/gateway/reconcile.py",
    "venuemesh/gateway/account.py",
    "hypercore/assets.py",
    "hypercore/actions.py",
    "hypercore/codec.py",
    "hypercore/exchange_codec.py",
    "hypercore/frames.py",
    "hypercore/precision.py",
    "hypercore/refusals.py",
    "hypercore/session.py",
    "hypercore/signing.py",
    "hypercore/adapter/normalizer.py",
    "hypercore/adapter/market_normalizer.py",
    "hypercore/adapter/answers.py",
    "hypercore/adapter/auditing.py",
    "hypercore/adapter/capabilities.py",
    "hypercore/adapter/twaps.py",
    "gateway_lighter/auditing.py",
    "gateway_lighter/goldilocks.py",
    "gateway_lighter/poseidon2.py",
    "gateway_lighter/ecgfp5.py",
    "gateway_lighter/schnorr.py",
    "gateway_lighter/transactions.py",
    "gateway_lighter/account_transactions.py",
    "gateway_lighter/codec_transactions.py",
    "gateway_lighter/signing.py",
    "gateway_lighter/scaling.py",
    "gateway_lighter/refusals.py",
    "gateway_lighter/nonces.py",
    "gateway_lighter/limits.py",
    "gateway_lighter/messages.py",
    "gateway_lighter/account_messages.py",
    "gateway_lighter/codec.py",
    "gateway_lighter/codec_frames.py",
    "gateway_lighter/codec_book.py",
    "gateway_lighter/codec_verdicts.py",
    "gateway_lighter/session.py",
    "router/breaker.py",
    "router/budgets.py",
    "router/call_rules.py",
    "router/verdicts.py",
    "router/selection.py",
    "router/assess.py",
    "router/cost.py",
    "router/split.py",
    "router/views.py",
    "router/instructions.py",
    "router/parents.py",
    "router/resizing.py",
    "router/route_states.py",
    "router/measured.py",
    "router/book_fold.py",
    "router/consolidated.py",
    "router/outcomes.py",
    "router/pages.py",
    "router/plans.py",
    "router/risk.py",
    "router/risk_ledger.py",
    "router/risk_reservations.py",
    "router/risk_view.py",
    "router/terms.py",
    "aggregator/accounts.py",
    "aggregator/booking.py",
    "aggregator/deltas.py",
    "aggregator/performance.py",
    "aggregator/portfolio.py",
    "aggregator/reading.py",
    "aggregator/sequencing.py",
    "aggregator/totals.py",
    "aggregator/valuation.py",
    "simulator/engine",
]


def imported(file: Path) -> Iterator[str]:
    """Every module a file imports, by its full name."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def files_of(place: str) -> list[Path]:
    """The Python files of a module or package; generated ones left out."""
    path = ROOT / place
    found = [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    return [file for file in found if "v1" not in file.relative_to(ROOT).parts]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_lies_below_them(package: str) -> None:
    """Services meet only through the contract; the shared library knows no venue and no service."""
    files = files_of(package)
    assert files, f"{package} has no files"
    for file in files:
        for name in imported(file):
            top = name.split(".")[0]
            if top in PACKAGES or top.startswith("gateway_"):
                assert top in ALLOWED[package], f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("place", PURE)
def test_pure_modules_import_nothing_that_waits_or_reads_a_clock(place: str) -> None:
    """What is pure can be tested by property and replayed exactly."""
    files = files_of(place)
    assert files and all(file.exists() for file in files), f"{place} is gone: update the list"
    for file in files:
        used = {name.split(".")[0] for name in imported(file)} & IMPURE
        assert not used, f"{file.relative_to(ROOT)} imports {sorted(used)}"


def test_no_service_imports_the_command_line() -> None:
    """It is a client like any other: it stands beside the services, not under them."""
    for package in PACKAGES:
        for file in files_of(package):
            if "cli" not in file.relative_to(ROOT).parts and "venuemesh.cli" in file.read_text():
                assert not any(name.startswith("venuemesh.cli") for name in imported(file)), file


def test_tests_of_the_library_do_not_reach_into_services() -> None:
    """A shared module that needs a service to be tested is in the wrong place."""
    for file in files_of("tests/unit/venuemesh"):
        for name in imported(file):
            assert name.split(".")[0] not in {"router", "aggregator", "simulator", "gateway_hyperliquid"}, file
