"""Every served call: errors, deadline, limits, metrics, span, log line - over a real grpc.aio server."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.integration.platform.probe import SERVICE, Probe, running
from venuemesh.channels import MeshChannel
from venuemesh.clock import SystemClock
from venuemesh.deadlines import Deadline, set_deadline, set_request_id
from venuemesh.errors import (
    DeadlineTooShort,
    InvalidRequest,
    MeshError,
    OrderNotFound,
    OutcomeUnknown,
    RateLimited,
    Reason,
    Sent,
    VenueUnavailable,
)
from venuemesh.status import error_from_rpc
from venuemesh.telemetry import Tracing

CODE = grpc.StatusCode


def failing(error: BaseException) -> Probe:
    probe = Probe()

    async def fail(request: StringValue) -> StringValue:
        raise error

    probe.on_unary = fail
    return probe


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_unary_call_when_handler_answers_returns_the_answer() -> None:
    """The wrapper changes nothing about a call that succeeds."""
    async with running() as mesh:
        assert (await mesh.stub.read(StringValue(value="x"))).value == "x"


async def test_unary_call_when_mesh_error_is_raised_carries_one_error_info() -> None:
    """The aio path delivers the rich status: code, reason, sent, retry delay."""
    error = VenueUnavailable("venue is away", retry_after_s=1.5, sent=Sent.NO, metadata={"venue": "lighter"})
    async with running(failing(error)) as mesh:
        caught = await refusal(mesh.stub.write(StringValue()))
    status = rpc_status.from_call(caught)  # type: ignore[arg-type]
    assert status is not None
    kinds = [detail.TypeName() for detail in status.details]
    assert caught.code() is CODE.UNAVAILABLE
    assert kinds == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("VENUE_DISCONNECTED", "venuemesh")
    assert dict(info.metadata) == {"sent": "no", "venue": "lighter"}


@pytest.mark.parametrize(
    "error",
    [
        OrderNotFound("no order x", metadata={"order": "x"}),
        InvalidRequest("price: '1e5' must have no exponent", reason=Reason.INVALID_DECIMAL, field="price"),
        RateLimited("slow down", reason=Reason.RATE_LIMIT_VENUE, sent=Sent.MAYBE, retry_after_s=0.25),
        OutcomeUnknown("reply lost"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_error_from_rpc_when_server_raised_it_restores_class_reason_and_sent(error: MeshError) -> None:
    """What the router reads is what the gateway raised."""
    async with running(failing(error)) as mesh:
        restored = error_from_rpc(await refusal(mesh.stub.write(StringValue())), is_write=True)
    assert type(restored) is type(error)
    fields = ("reason", "sent", "retry_after_s", "field", "metadata", "message")
    assert {name: getattr(restored, name) for name in fields} == {name: getattr(error, name) for name in fields}


async def test_unary_call_when_handler_crashes_is_internal_and_hides_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller gets a request id, the log gets the traceback, one line at ERROR."""
    async with running(failing(RuntimeError("secret text"))) as mesh:
        caught = await refusal(mesh.stub.write(StringValue(), metadata=(("x-request-id", "req-7"),)))
    assert caught.code() is CODE.INTERNAL
    assert "secret text" not in str(caught.details())
    assert "req-7" in str(caught.details())
    (line,) = [record for record in caplog.records if record.getMessage() == "rpc"]
    assert line.levelno == logging.ERROR
    assert line.exc_info is not None
    assert "secret text" in str(line.exc_info[1])


async def test_unary_call_when_a_group_of_mesh_errors_is_raised_answers_the_first() -> None:
    """A task group in a handler does not turn a refusal into INTERNAL."""
    async with running(failing(ExceptionGroup("tasks", [OrderNotFound("gone")]))) as mesh:
        assert (await refusal(mesh.stub.read(StringValue()))).code() is CODE.NOT_FOUND


async def test_unary_call_when_request_is_garbage_is_invalid_argument() -> None:
    """Bytes that are no message are the caller's fault and say so."""
    async with running() as mesh:
        call = mesh.channel.unary_unary(f"/{SERVICE}/Read")(b"\xff\xff\xff")
        restored = error_from_rpc(await refusal(call), is_write=False)
    assert isinstance(restored, InvalidRequest)


async def test_stream_when_handler_crashes_after_a_message_is_internal_and_hides_the_text() -> None:
    """Streams go through the same mapping as unary calls."""
    async with running() as mesh:
        call = mesh.stub.watch(StringValue(value="bad"))
        assert (await call.read()).value == "hello"
        caught = await refusal(call.read())
    assert caught.code() is CODE.INTERNAL
    assert "secret text" not in str(caught.details())


async def test_stream_when_a_message_cannot_be_encoded_is_internal_and_hides_the_text() -> None:
    """gRPC would answer with the text of the encoder's exception."""
    async with running() as mesh:
        call = mesh.stub.watch(StringValue(value="unencodable"))
        await call.read()
        caught = await refusal(call.read())
    assert caught.code() is CODE.INTERNAL
    assert "internal error" in str(caught.details())


async def test_stream_when_reader_cancels_ends_the_handler_and_frees_the_slot() -> None:
    """A cancelled stream runs its finally blocks and counts no more."""
    async with running(streams_per_peer=1) as mesh, asyncio.timeout(60):
        for _ in range(3):
            mesh.probe.ended.clear()
            call = mesh.stub.watch(StringValue())
            await call.read()
            call.cancel()
            await mesh.probe.ended.wait()
        await mesh.server.streams.wait_closed(5)
        assert len(mesh.server.streams) == 0
        assert 'venuemesh_grpc_open_streams{method="/venuemesh.test.ProbeService/Watch"} 0.0' in (mesh.metrics.render())


async def test_chat_when_both_sides_stream_echoes_each_message() -> None:
    """Requests of a stream are decoded and answered one by one."""
    async with running() as mesh, asyncio.timeout(60):
        call = mesh.stub.chat(iter([StringValue(value="a"), StringValue(value="b")]))
        assert [message.value async for message in call] == ["a", "b"]


# --- deadline ---


async def test_remaining_when_client_sets_a_deadline_is_seen_by_the_handler() -> None:
    """The handler can ask how long it has."""
    async with running() as mesh:
        await mesh.stub.read(StringValue(), timeout=30)
        assert mesh.probe.seen_remaining_s is not None
        assert 20 < mesh.probe.seen_remaining_s < 31  # gRPC rounds up on the wire


@pytest.mark.parametrize(("method", "kind"), [("read", DeadlineTooShort), ("write", OutcomeUnknown)])
async def test_unary_call_when_client_sets_no_deadline_is_bounded_by_the_default(
    method: str, kind: type[MeshError]
) -> None:
    """A hanging handler is ended; for a write the outcome is unknown, for a read nothing was sent."""
    probe = Probe()

    async def hang(request: StringValue) -> StringValue:
        await asyncio.Event().wait()
        return request

    probe.on_unary = hang
    async with running(probe, default_deadline_s=0.05) as mesh, asyncio.timeout(60):
        restored = error_from_rpc(await refusal(getattr(mesh.stub, method)(StringValue())), is_write=False)
        assert type(restored) is kind
        assert probe.ended.is_set()


async def test_unary_call_when_its_deadline_passes_cancels_the_handler() -> None:
    """gRPC's own deadline reaches the handler as cancellation, which is not swallowed."""
    probe = Probe()
    cancelled = asyncio.Event()

    async def hang(request: StringValue) -> StringValue:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return request

    probe.on_unary = hang
    async with running(probe) as mesh, asyncio.timeout(60):
        caught = await refusal(mesh.stub.write(StringValue(), timeout=0.2))
        assert caught.code() is CODE.DEADLINE_EXCEEDED
        assert error_from_rpc(caught, is_write=True).sent is Sent.MAYBE
        await cancelled.wait()


async def test_mesh_channel_when_serving_a_call_passes_on_less_time_trace_and_request_id() -> None:
    """Each hop takes the remaining time less its reserve."""

    async with running() as mesh:
        stub_channel = MeshChannel(mesh.channel, reserve_s=0.5)
        clock = SystemClock()
        set_deadline(Deadline(clock, clock.monotonic_s() + 20))
        set_request_id("req-9")
        read = stub_channel.unary_unary(f"/{SERVICE}/Read")
        await read(StringValue(value="x").SerializeToString(), timeout=60)
        assert mesh.probe.seen_request_id == "req-9"
        assert mesh.probe.seen_remaining_s is not None
        assert 10 < mesh.probe.seen_remaining_s < 20


async def test_mesh_channel_when_no_time_is_left_refuses_before_sending() -> None:
    """Too little time is an answer with sent=no, not an attempt."""
    async with running() as mesh:
        clock = SystemClock()
        set_deadline(Deadline(clock, clock.monotonic_s() + 0.05))
        read = MeshChannel(mesh.channel, reserve_s=0.1).unary_unary(f"/{SERVICE}/Read")
        with pytest.raises(DeadlineTooShort) as caught:
            read(b"")
        assert caught.value.sent is Sent.NO
        assert not mesh.probe.entered.is_set()


# --- limits ---


async def test_unary_calls_when_over_the_rate_are_refused_with_a_delay() -> None:
    """A flooding caller is told which limit and how long to wait."""
    async with running(calls_per_second=0.001, call_burst=3) as mesh:
        for _ in range(3):
            await mesh.stub.read(StringValue())
        restored = error_from_rpc(await refusal(mesh.stub.read(StringValue())), is_write=False)
    assert isinstance(restored, RateLimited)
    assert restored.reason is Reason.RATE_LIMIT_LOCAL
    assert restored.retry_after_s is not None
    assert restored.retry_after_s > 100
    assert restored.metadata == {"limit": "calls_per_second", "value": "0.001"}


@pytest.mark.parametrize("limit", ["streams_per_peer", "streams_total"])
async def test_streams_when_over_the_bound_are_refused_and_others_live_on(limit: str) -> None:
    """Many streams on one connection: those within the bound open, all others are told at once."""
    async with running(**{limit: 5}, call_burst=10_000, max_concurrent_streams=50) as mesh:
        async with asyncio.timeout(60):
            calls = [mesh.stub.watch(StringValue()) for _ in range(1_000)]
            first = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
            opened = [message for message in first if isinstance(message, StringValue)]
            refused = [error for error in first if isinstance(error, grpc.aio.AioRpcError)]
            assert (len(opened), len(refused)) == (5, 995)
            reasons = {error_from_rpc(error, is_write=False).reason for error in refused}
            assert reasons == {Reason.TOO_MANY_STREAMS}
            restored = error_from_rpc(refused[0], is_write=False)
            assert restored.metadata["limit"] == limit
            assert (await mesh.stub.read(StringValue(value="x"))).value == "x"
            for call in calls:
                call.cancel()


@pytest.mark.parametrize("size", [2_000, 3_900])
async def test_message_when_over_the_bound_is_refused_by_name(size: int) -> None:
    """The bound is an error the caller can read, with the limit in it."""
    async with running(max_message_bytes=1_024) as mesh:
        restored = error_from_rpc(await refusal(mesh.stub.write(StringValue(value="x" * size))), is_write=True)
    assert isinstance(restored, InvalidRequest)
    assert restored.reason is Reason.MESSAGE_TOO_LARGE
    assert (restored.sent, restored.metadata["value"]) == (Sent.NO, "1024")


async def test_message_when_ten_megabytes_is_refused_and_the_server_lives_on() -> None:
    """Far over the bound the core refuses it before it is in memory, and says the sizes."""
    async with running(max_message_bytes=1_024) as mesh:
        caught = await refusal(mesh.stub.write(StringValue(value="x" * 10_000_000)))
        assert caught.code() is CODE.RESOURCE_EXHAUSTED
        assert "larger than max" in str(caught.details())
        assert (await mesh.stub.read(StringValue(value="x"))).value == "x"


# --- what is reported ---


async def test_call_when_traced_reports_span_metrics_and_one_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The span continues the caller's trace; the line and the counters name method and code."""
    caplog.set_level(logging.INFO)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"), ("x-request-id", "req-1"))
    async with running() as mesh:
        await mesh.stub.read(StringValue(), metadata=headers)
        (span,) = mesh.spans.get_finished_spans()
        assert span.name == f"{SERVICE}/Read"
        assert f"{span.context.trace_id:032x}" == trace_id
        text = mesh.metrics.render()
        assert f'venuemesh_grpc_calls_total{{code="OK",method="/{SERVICE}/Read",reason=""}} 1.0' in text
        assert f'venuemesh_grpc_call_seconds_count{{method="/{SERVICE}/Read"}} 1.0' in text
        assert f'venuemesh_grpc_calls_in_flight{{method="/{SERVICE}/Read"}} 0.0' in text
    (line,) = [record for record in caplog.records if record.getMessage() == "rpc"]
    assert vars(line) | {"method": f"/{SERVICE}/Read", "code": "OK", "request_id": "req-1"} == vars(line)


async def test_call_when_method_does_not_exist_is_unimplemented_and_unlabelled() -> None:
    """A made-up method name must not become a label."""
    async with running() as mesh:
        caught = await refusal(mesh.channel.unary_unary("/nobody.Nothing/Never")(b""))
        assert caught.code() is CODE.UNIMPLEMENTED
        assert "Never" not in mesh.metrics.render()


async def test_request_id_when_malformed_is_replaced() -> None:
    """A caller cannot write arbitrary text into our logs through the header."""
    async with running() as mesh:
        await mesh.stub.read(StringValue(), metadata=(("x-request-id", "a b" * 100),))
        assert mesh.probe.seen_request_id is not None
        assert len(mesh.probe.seen_request_id) == 16


async def test_call_when_the_caller_sends_no_trace_begins_one_of_its_own() -> None:
    """The span that was current when the server started is not the parent of every call for ever."""
    with Tracing("starter").span("start") as starter:
        async with running() as mesh:
            await mesh.stub.read(StringValue())
            (span,) = mesh.spans.get_finished_spans()
    assert span.context.trace_id != starter.get_span_context().trace_id
    assert span.parent is None
