"""What an operator sees of a real mesh: one trace per order over all hops, metrics as documented, logs and levels."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.e2e.collector import Collector, Exported, collecting, tree
from tests.e2e.documents import DOCUMENTS, commands, run
from tests.e2e.mesh import Mesh, market_order, running_mesh
from tests.unit.deploy.families import ROOT, documented
from venuemesh.telemetry import Tracing, trace_headers
from venuemesh.v1 import operations_service_pb2, operations_service_pb2_grpc, order_service_pb2

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.asyncio(loop_scope="module")]
TIMEOUT_S = 60.0
SUBMIT = "venuemesh.v1.OrderService/SubmitOrder"
FOLD = "fold venuemesh.v1."
GATEWAYS = ("gateway_hyperliquid", "gateway_tradexyz", "gateway_lighter")
SERVICES = ("router", *GATEWAYS, "aggregator")
REQUESTS = {"hyperliquid": "post.order", "lighter": "sendtx"}


@dataclass
class Watched:
    """A mesh whose spans arrive at a collector."""

    mesh: Mesh
    collector: Collector


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """One mesh for all tests of this file; services export every few milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        async with collecting() as collector:
            exporting = {f"{name.upper()}_TELEMETRY__OTLP_ENDPOINT": collector.url for name in SERVICES}
            async with running_mesh(tmp_path_factory.mktemp("mesh"), settings=exporting) as mesh:
                yield Watched(mesh, collector)


def logged(mesh: Mesh, service: str) -> list[dict[str, object]]:
    """Every line a service has logged."""
    return [json.loads(line) for line in (mesh.logs / f"{service}.log").read_text().splitlines() if line[:1] == "{"]


@pytest.mark.parametrize("venue", ["hyperliquid", "lighter"])
async def test_order_is_one_trace_from_client_to_portfolio(watched: Watched, venue: str) -> None:
    """Client, router, gateway, journal, request to the venue, NATS, aggregator: each a child of what called it."""
    mesh, gateway = watched.mesh, f"gateway_{venue}"
    client = InMemorySpanExporter()
    tracing = Tracing("client", SimpleSpanProcessor(client))
    with tracing.span("buy") as root:
        answer = await mesh.orders().SubmitOrder(
            market_order(f"traced-{venue}", venue=venue), timeout=TIMEOUT_S, metadata=trace_headers()
        )
    tracing.shutdown()
    assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
    context = root.get_span_context()
    trace_id, root_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"

    def complete(spans: Sequence[Exported]) -> bool:
        mine = [span for span in spans if span.trace_id == trace_id]
        wanted = {
            ("router", SUBMIT),
            (gateway, SUBMIT),
            ("aggregator", f"{FOLD}fill"),
            ("aggregator", f"{FOLD}position"),
        }
        return wanted <= {(span.service, span.name) for span in mine}

    await watched.collector.wait_for(complete)
    spans = watched.collector.of(trace_id)
    shown = "\n".join(tree(spans, root_id))
    print(shown)
    by_name = {(span.service, span.name): span for span in spans}
    routed, served = by_name["router", SUBMIT], by_name[gateway, SUBMIT]
    assert routed.parent_id == root_id, shown
    assert served.parent_id == routed.span_id, shown
    assert by_name[gateway, "append venuemesh.v1.intent"].parent_id == served.span_id, shown
    (asked,) = (span for span in spans if span.name.startswith(REQUESTS[venue]))
    assert (asked.service, asked.parent_id, asked.failed) == (gateway, served.span_id, False), shown
    assert asked.attributes["venuemesh.outcome"] == "ok"
    assert by_name[gateway, "append venuemesh.v1.intent"].end_ns <= asked.start_ns, shown
    folds = [span for span in spans if span.name.startswith(FOLD)]
    assert {(span.service, span.parent_id) for span in folds} == {("aggregator", served.span_id)}, shown
    assert all(span.parent_id == root_id or span.parent_id in {other.span_id for other in spans} for span in spans)
    lines = [line for service in ("router", gateway) for line in logged(mesh, service) if line["event"] == "rpc"]
    assert len([line for line in lines if line.get("trace_id") == trace_id]) == 2


async def test_call_that_nobody_samples_leaves_no_span_and_no_header(watched: Watched) -> None:
    """An unsampled caller costs no export; its id is in the logs all the same."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-00"),)
    await watched.mesh.orders().SubmitOrder(market_order("unsampled"), timeout=TIMEOUT_S, metadata=headers)
    sampled = (("traceparent", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)
    await watched.mesh.orders().SubmitOrder(market_order("sampled"), timeout=TIMEOUT_S, metadata=sampled)
    await watched.collector.wait_for(
        lambda spans: any(s.trace_id.startswith("1af7") and s.name.startswith(FOLD) for s in spans)
    )
    assert watched.collector.of(trace_id) == []
    assert [line for line in logged(watched.mesh, "router") if line.get("trace_id") == trace_id]


async def test_endpoints_expose_what_is_documented_and_nothing_else(watched: Watched) -> None:
    """docs/metrics.md names each metric under the services that have it, with its type."""
    text = (ROOT / "docs/metrics.md").read_text()
    parts = {part.partition("\n")[0]: documented(part) for part in text.split("\n## ")[1:]}
    everywhere = parts.pop("Every service")
    owners = {"router": "Router", "aggregator": "Aggregator"} | dict.fromkeys(GATEWAYS, "Gateways")
    async with httpx.AsyncClient(verify=False) as client:
        for service, part in owners.items():
            address = watched.mesh.known[service]["metrics_address"]
            exposed = (await client.get(f"http://{address}/metrics", timeout=TIMEOUT_S)).text
            # HELP of a counter has the name with `_total`; `_created` belongs to the family before it.
            shown = re.findall(r"^# TYPE (venuemesh_\w+) (\w+)$", exposed, re.MULTILINE)
            families = {(name, kind) for name, kind in shown if not name.endswith("_created")}
            assert families == {(family.name, family.kind) for family in (*everywhere, *parts[part])}, service
            assert "process_resident_memory_bytes" in exposed
    assert set(parts) == set(owners.values())


def level_calls(mesh: Mesh, service: str) -> list[dict[str, object]]:
    """Log lines of a service about SetLogLevel."""
    return [line for line in logged(mesh, service) if str(line.get("method", "")).endswith("/SetLogLevel")]


async def test_level_is_changed_while_a_service_runs(watched: Watched, tmp_path: Path) -> None:
    """SetLogLevel at every service: DEBUG lines appear, and the former level is told."""
    mesh = watched.mesh
    for service in SERVICES:
        stub = operations_service_pb2_grpc.OperationsServiceStub(mesh.channel(service))
        request = operations_service_pb2.SetLogLevelRequest(level="DEBUG")
        assert (await stub.SetLogLevel(request, timeout=TIMEOUT_S)).previous_level == "INFO"
        request.level = "WARNING"
        assert (await stub.SetLogLevel(request, timeout=TIMEOUT_S)).previous_level == "DEBUG"
        request.level = "INFO"
        assert (await stub.SetLogLevel(request, timeout=TIMEOUT_S)).previous_level == "WARNING"
        # The call that sets WARNING ends behind it, so its own line is not written; lines come after answers.
        async with asyncio.timeout(TIMEOUT_S):
            while len(level_calls(mesh, service)) < 2:
                await asyncio.sleep(0.02)
        calls = level_calls(mesh, service)
        assert len(calls) == 2, service
        assert all({"time", "level", "logger", "event", "trace_id", "span_id"} <= line.keys() for line in calls)


NOT_RUN = {"make run", "make test"}


async def test_commands_that_no_test_runs_are_marked_and_few() -> None:
    """A mark says why; whoever adds one says so here too."""
    everything = [command for document in DOCUMENTS for command in commands(document)]
    assert {command.line for command in everything if command.not_run} == NOT_RUN
    assert len(everything) > 15


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_every_command_of_the_document_runs(
    watched: Watched, document: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Line by line, in order, as a reader would paste them. They halt trading: nothing may come behind."""
    known = watched.mesh.known
    addresses = {
        "127.0.0.1:50050": known["router"]["grpc_address"],
        "127.0.0.1:50051": known["gateway_hyperliquid"]["grpc_address"],
        "127.0.0.1:50060": known["aggregator"]["grpc_address"],
        "127.0.0.1:9465": known["router"]["metrics_address"],
    }
    folder = tmp_path_factory.mktemp("checkout")
    for command in commands(document):
        if not command.not_run:
            await asyncio.to_thread(run, command, addresses, folder)
