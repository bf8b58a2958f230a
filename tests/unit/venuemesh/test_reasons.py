"""The list of reasons says what the code does."""

from __future__ import annotations

import ast
import importlib.util
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import grpc
import pytest

from venuemesh import errors
from venuemesh.errors import MeshError, Reason
from venuemesh.reasons import REASONS
from venuemesh.v1 import error_pb2

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    "venuemesh",
    "router",
    "aggregator",
    "hypercore",
    "gateway_lighter",
    "gateway_hyperliquid",
    "gateway_tradexyz",
)
CLASSES = {
    name: found for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, MeshError)
}


def generator() -> ModuleType:
    """docs/generate.py, which is a script."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_current() -> None:
    """`python docs/generate.py` was run after the last change of contract or list."""
    assert (ROOT / "docs/reasons.md").read_text() == generator().page()


def test_contract_code_and_list_have_the_same_reasons() -> None:
    """One word, three places."""
    contract = {value.name.removeprefix("REASON_") for value in error_pb2.Reason.DESCRIPTOR.values} - {"UNSPECIFIED"}
    assert contract == {reason.value for reason in Reason} == {reason.value for reason in REASONS}
    assert generator().meanings().keys() == contract


def raised() -> dict[Reason, set[tuple[str, str | None]]]:
    """gRPC code and `sent` of every error the services make with a reason that stands in the source."""
    found: dict[Reason, set[tuple[str, str | None]]] = defaultdict(set)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "v1" not in path.parts:
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                        for reason, code, sent in _raised_by(node, CLASSES[node.func.id]):
                            found[reason].add((code, sent))
    return found


def _raised_by(call: ast.Call, kind: type[MeshError]) -> list[tuple[Reason, str, str | None]]:
    words = {word.arg: word.value for word in call.keywords}
    reason, sent = words.get("reason"), words.get("sent")
    default = errors.Sent.MAYBE if issubclass(kind, errors.OutcomeUnknown) else errors.Sent.NO
    claim = default.value if sent is None else None
    if isinstance(sent, ast.Attribute) and isinstance(sent.value, ast.Name) and sent.value.id == "Sent":
        claim = errors.Sent[sent.attr].value
    if reason is None:
        return [(kind.default_reason, kind.code.name, claim)]
    if isinstance(reason, ast.Attribute) and reason.attr in Reason.__members__:
        return [(Reason[reason.attr], kind.code.name, claim)]
    return []


RAISED = raised()


@pytest.mark.parametrize("reason", sorted(RAISED))
def test_reason_is_raised_with_no_code_and_claim_but_those_listed(reason: Reason) -> None:
    """A caller who follows the list is never surprised by the code, nor by what was sent."""
    facts = REASONS[reason]
    assert {code for code, _ in RAISED[reason]} <= set(facts.codes)
    assert {sent for _, sent in RAISED[reason] if sent} <= set(facts.sent)


def test_codes_of_the_list_exist_and_those_of_classes_are_used() -> None:
    """Codes are gRPC's own; the default reason of every class is listed with its code."""
    names = {code.name for code in grpc.StatusCode}
    assert all(set(facts.codes) <= names and facts.do for facts in REASONS.values())
    for kind in CLASSES.values():
        # A class without a reason of its own is always given one.
        assert kind.default_reason is Reason.INTERNAL or kind.code.name in REASONS[kind.default_reason].codes


@pytest.mark.parametrize("module", ["hypercore/refusals.py", "gateway_lighter/refusals.py"])
def test_what_a_venue_refuses_for_can_be_an_orders_reject_reason(module: str) -> None:
    """Every reason in a venue's table of refusals is listed as one of an order."""
    tree = ast.parse((ROOT / module).read_text())
    named = {
        Reason[node.attr]
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert len(named) > 10
    assert {reason for reason in named if not REASONS[reason].rejects} == set()


def test_reasons_without_a_code_never_end_a_call() -> None:
    """They stand in an order or close a stream."""
    assert {reason for reason, facts in REASONS.items() if not facts.codes} == {
        Reason.SLOW_CONSUMER,
        Reason.SIBLING_FILLED,
    }
