"""The audit trail of all three gateways over real traffic: complete, told apart, and without a secret (property 9)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulator.faults import FaultKind
from tests.broker import Broker
from tests.integration.audit.gateways import KINDS, Audited, Kind, audited
from venuemesh.v1 import operations_pb2 as pb
from venuemesh.v1 import order_pb2
from venuemesh.v1 import order_service_pb2 as wire

gateways = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
# A signature in hex or base64, or an auth token of Lighter, whatever its name.
SIGNATURE_SHAPE = re.compile(r"[0-9a-fA-F]{100,}|[A-Za-z0-9+/]{85,}")


async def trade(found: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders over both ways, refused, lost, cancelled, batched; reads; a reconnect."""
    assert (await found.submit("rests")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
    batch = wire.BatchSubmitOrdersRequest(orders=[found.order("b-1"), found.order("b-2")])
    await found.gateway.orders.BatchSubmitOrders(batch, timeout=5)
    await found.cancel("rests")
    found.fail(FaultKind.DROP_REPLY, found.kind.order_action)
    assert (await found.submit("lost")).outcome == wire.SUBMIT_OUTCOME_UNKNOWN
    await found.until(lambda: not found.gateway.core.desk.gates["main"].ready)
    await found.until(lambda: found.gateway.core.desk.gates["main"].ready)
    crossing = {"time_in_force": order_pb2.TIME_IN_FORCE_IOC}
    await found.submit("no-match", **crossing)
    await found.reconnect()
    found.use_http(monkeypatch)
    assert (await found.submit("over-http")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
    everything = wire.CancelAllOrdersRequest(account_id="main")
    await found.gateway.orders.CancelAllOrders(everything, timeout=5)


@gateways
async def test_trail_has_every_request_and_no_secret_is_in_it_nor_in_any_log(
    kind: Kind, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: what the wire saw is in the trail, once, in order; no key, signature or token is there or in a log line."""
    async with audited(kind, broker, tmp_path, monkeypatch) as found:
        await trade(found, monkeypatch)
        stored, entries = await found.stored(), await found.entries()
        seen = len(found.wire.records)
        assert len(stored) >= seen > 20
        told = [(entry.endpoint, entry.write) for entry in reversed(entries)][:seen]
        assert told == [(record.endpoint, record.write) for record in found.wire.records[:seen]]
        writes = [record.endpoint for record in found.wire.records if record.write]
        for way in kind.written_by:
            assert [endpoint for endpoint in writes if endpoint.startswith(way)]
        secrets = found.secrets()
        assert len(found.wire.signatures()) >= 5
        assert bool(found.tokens) is (kind.name == "lighter")
        text = found.log.getvalue() + "".join(message.payload.decode("latin-1") for message in stored)
        assert "websocket" in text
        assert not [part for part in secrets if part in text or part.upper() in text]
        assert not SIGNATURE_SHAPE.findall(text)
        assert found.gateway.core.audit.lost == 0


@gateways
async def test_trail_of_one_order_tells_its_whole_story(
    kind: Kind, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: by order id come the send, its lost answer, the questions about it and the cancel; they share an id."""
    async with audited(kind, broker, tmp_path, monkeypatch) as found:
        await found.submit("other")
        found.fail(FaultKind.DROP_REPLY, kind.order_action)
        lost = await found.submit("story")
        account = found.gateway.core.accounts["main"]

        def settled() -> bool:
            order = account.order_by_key("story")
            return order is not None and order.status == order_pb2.ORDER_STATUS_NEW

        await found.until(settled)
        await found.cancel("story")
        story = list(reversed(await found.entries(order_id=lost.order.order_id)))
        assert {entry.order_id for entry in story} == {lost.order.order_id}
        assert {entry.correlation_id for entry in story} == {"flow-story"}
        assert {(entry.venue, entry.account_id) for entry in story} == {(kind.name, "main")}
        sent, *cancels = [entry for entry in story if entry.write]
        assert (sent.write, sent.outcome, sent.HasField("latency")) == (True, pb.AUDIT_OUTCOME_UNKNOWN, False)
        assert sent.detail
        assert "***" in sent.request
        assert (cancels[0].outcome, cancels[0].HasField("latency")) == (pb.AUDIT_OUTCOME_OK, True)
        assert any(not entry.write for entry in story)  # the venue was asked


@gateways
async def test_subscriptions_of_the_private_stream_are_in_the_trail(
    kind: Kind, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9, P11: each with its answer, again after a reconnect; their tokens are not."""
    async with audited(kind, broker, tmp_path, monkeypatch) as found:
        await found.submit("one")
        await found.reconnect()
        entries = await found.entries(account_id="main")
        asked = [entry for entry in entries if entry.endpoint.startswith("subscribe.")]
        assert {entry.link_id for entry in asked} == {"user/main"}
        requests = [entry.request for entry in asked if entry.outcome == pb.AUDIT_OUTCOME_OK]
        assert len(requests) >= 2 * len(set(requests)) > 2


@gateways
async def test_refusals_of_the_venue_are_found_by_outcome(
    kind: Kind, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: an answer that declines is refused, also where the venue answers 200."""
    async with audited(kind, broker, tmp_path, monkeypatch) as found:
        await found.submit("good")
        found.fail(FaultKind.REFUSE, kind.order_action, text="Insufficient margin", code=21_711)
        await found.submit("bad")
        refused = await found.entries(outcome=pb.AUDIT_OUTCOME_REFUSED)
        account = found.gateway.core.accounts["main"]
        bad = account.order_by_key("bad")
        assert bad is not None
        assert bad.order_id in [entry.order_id for entry in refused if entry.write]
        assert "good" not in {entry.correlation_id.removeprefix("flow-") for entry in refused}
