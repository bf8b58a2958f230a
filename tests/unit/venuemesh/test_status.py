"""`MeshError` to google.rpc.Status and back."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh import errors
from venuemesh.errors import MeshError, Reason, Sent
from venuemesh.status import DETAILS_KEY, MAX_TRAILER_BYTES, error_from_rpc, to_grpc_status, to_status

CODE = grpc.StatusCode


def subclasses(parent: type[MeshError]) -> list[type[MeshError]]:
    return [each for child in parent.__subclasses__() for each in (child, *subclasses(child))]


ALL = [cls for cls in subclasses(MeshError) if cls.__module__ == errors.__name__]
texts = st.text(max_size=3_000)
keys = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=80)
mesh_errors = st.builds(
    lambda cls, message, **rest: cls(message, **rest),
    st.sampled_from([MeshError, *ALL]),
    texts,
    reason=st.none() | st.sampled_from(Reason),
    sent=st.sampled_from(Sent),
    retry_after_s=st.none() | st.floats(-10, 1e12),
    field=st.none() | texts,
    metadata=st.dictionaries(keys, texts, max_size=50),
)


def on_the_wire(error: MeshError) -> grpc.aio.AioRpcError:
    status: Any = to_grpc_status(error)
    trailers = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailers, status.details)


def wire_bytes(status: Any) -> int:
    """What the trailers take: base64 for the details, at worst three bytes for one of the message."""
    ((_, raw),) = status.trailing_metadata
    message = sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in status.details.encode())
    return (len(raw) + 2) // 3 * 4 + message + len(DETAILS_KEY) + len("grpc-message") + 64


@settings(max_examples=300)
@given(error=mesh_errors)
def test_status_when_any_error_fits_the_trailer_and_has_one_error_info(error: MeshError) -> None:
    """However long its texts, the caller gets reason, domain and sent."""
    status = to_status(error)
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["sent"]) == (error.reason, "venuemesh", error.sent)
    assert wire_bytes(to_grpc_status(error)) < MAX_TRAILER_BYTES


@settings(max_examples=300)
@given(error=mesh_errors, is_write=st.booleans())
def test_error_when_sent_through_the_wire_keeps_code_reason_sent_and_delay(error: MeshError, is_write: bool) -> None:
    """The reverse mapping guesses nothing: the server's words win, for reads and writes."""
    restored = error_from_rpc(on_the_wire(error), is_write=is_write)
    assert (restored.reason, restored.sent) == (error.reason, error.sent)
    assert restored.code is error.code
    assert (restored.retry_after_s is None) is (error.retry_after_s is None)
    assert (restored.field is None) is (error.field is None)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_error_when_class_has_a_reason_of_its_own_comes_back_as_that_class(cls: type[MeshError]) -> None:
    """The router can catch `OrderNotFound` from a gateway as if it were local."""
    restored = error_from_rpc(on_the_wire(cls("x")), is_write=True)
    if cls.default_reason is not Reason.INTERNAL and cls.default_reason is not Reason.INVALID_ARGUMENT:
        assert type(restored) is cls
    assert isinstance(restored, cls) or issubclass(cls, type(restored))


@pytest.mark.parametrize(
    ("error", "kinds"),
    [
        (errors.InvalidOrder("x", field="price"), ["ErrorInfo", "BadRequest"]),
        (errors.RateLimited("x", retry_after_s=1), ["ErrorInfo", "RetryInfo", "QuotaFailure"]),
        (errors.TradingHalted("x"), ["ErrorInfo", "PreconditionFailure"]),
        (errors.OrderNotFound("x"), ["ErrorInfo", "ResourceInfo"]),
        (errors.Draining("x", retry_after_s=1), ["ErrorInfo", "RetryInfo"]),
        (errors.OutcomeUnknown("x"), ["ErrorInfo"]),
        (MeshError("x"), ["ErrorInfo"]),
    ],
)
def test_status_when_error_is_of_a_kind_carries_its_standard_details(error: MeshError, kinds: list[str]) -> None:
    """CONTRACT section 7: the details that generic tools understand."""
    assert [detail.TypeName().removeprefix("google.rpc.") for detail in to_status(error).details] == kinds


def rpc_error(code: grpc.StatusCode, trailers: tuple[tuple[str, Any], ...] = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), "from the transport")


@pytest.mark.parametrize("code", [code for code in CODE if code not in (CODE.OK, CODE.UNIMPLEMENTED)])
def test_error_when_a_write_fails_without_error_info_is_outcome_unknown(code: grpc.StatusCode) -> None:
    """A status that no handler of ours made proves nothing about a write."""
    error = error_from_rpc(rpc_error(code), is_write=True)
    assert isinstance(error, errors.OutcomeUnknown)
    assert (error.sent, error.metadata["grpc_code"]) == (Sent.MAYBE, code.name)


def test_error_when_a_write_is_unimplemented_was_not_sent() -> None:
    """gRPC answers that before any handler runs."""
    assert error_from_rpc(rpc_error(CODE.UNIMPLEMENTED), is_write=True).sent is Sent.NO


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CODE.UNAVAILABLE, errors.GatewayUnavailable),
        (CODE.DEADLINE_EXCEEDED, errors.DeadlineTooShort),
        (CODE.RESOURCE_EXHAUSTED, errors.RateLimited),
        (CODE.UNKNOWN, MeshError),
    ],
)
def test_error_when_a_read_fails_without_error_info_follows_the_code(
    code: grpc.StatusCode, kind: type[MeshError]
) -> None:
    """A read sends nothing to a venue in the caller's name."""
    error = error_from_rpc(rpc_error(code), is_write=False)
    assert (type(error), error.sent) == (kind, Sent.NO)


def test_error_when_reason_is_from_a_newer_server_acts_by_the_code() -> None:
    """An unknown word is kept for people; class and sent still hold."""
    info = error_details_pb2.ErrorInfo(reason="MOON_PHASE", domain="venuemesh", metadata={"sent": "no"})
    status = status_pb2.Status(code=CODE.UNAVAILABLE.value[0])
    status.details.add().Pack(info)
    error = error_from_rpc(rpc_error(CODE.UNAVAILABLE, ((DETAILS_KEY, status.SerializeToString()),)), is_write=True)
    assert (type(error), error.sent) == (errors.Unavailable, Sent.NO)
    assert (error.reason, error.metadata) == (Reason.INTERNAL, {"reason": "MOON_PHASE"})


@pytest.mark.parametrize("sent", [None, "perhaps"])
def test_error_when_sent_is_missing_or_strange_is_maybe_for_a_write(sent: str | None) -> None:
    """Doubt is never read as `no`."""
    info = error_details_pb2.ErrorInfo(reason="CIRCUIT_OPEN", domain="venuemesh")
    if sent:
        info.metadata["sent"] = sent
    status = status_pb2.Status(code=CODE.UNAVAILABLE.value[0])
    status.details.add().Pack(info)
    trailers = ((DETAILS_KEY, status.SerializeToString()),)
    assert error_from_rpc(rpc_error(CODE.UNAVAILABLE, trailers), is_write=True).sent is Sent.MAYBE


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", b"\x1a\x05hello"])
def test_error_when_details_are_garbage_or_of_another_domain_is_a_transport_error(raw: bytes) -> None:
    """Only our own ErrorInfo is believed."""
    error = error_from_rpc(rpc_error(CODE.UNAVAILABLE, ((DETAILS_KEY, raw),)), is_write=True)
    assert error.sent is Sent.MAYBE
    status = status_pb2.Status(code=14)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason="CIRCUIT_OPEN", domain="proxy.example", metadata={"sent": "no"})
    )
    foreign = rpc_error(CODE.UNAVAILABLE, ((DETAILS_KEY, status.SerializeToString()),))
    assert error_from_rpc(foreign, is_write=True).sent is Sent.MAYBE
