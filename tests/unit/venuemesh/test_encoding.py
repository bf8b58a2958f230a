"""Bodies encoded once for all readers are the bytes each reader would have got for itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from venuemesh.encoding import EncodedResponse, Once, encoding_responder
from venuemesh.v1 import event_pb2, portfolio_service_pb2, stream_pb2

Response = portfolio_service_pb2.StreamExecutionsResponse


@given(number=st.integers(0, 2**64 - 1), size=st.integers(0, 70_000), previous=st.integers(0, 2**64 - 1))
def test_encoded_response_reads_as_the_message_it_stands_for(number: int, size: int, previous: int) -> None:
    """Any length of body and header, unknown fields included."""
    header = stream_pb2.StreamHeader(epoch="e" * (size % 300), sequence=number, previous_sequence=previous)
    event = event_pb2.Event(event_id="x" * size)
    event.MergeFromString(b"\xf2\x3f\x02AB")
    encoded = encoding_responder(Response, lambda value: {"event": value})(header, event)
    assert isinstance(encoded, EncodedResponse)
    whole = Response(header=header, event=event)
    assert encoded.SerializeToString() == whole.SerializeToString()
    assert Response.FromString(encoded.SerializeToString()) == whole


def test_value_is_encoded_once_however_many_readers_it_has() -> None:
    """What a thousand readers share is made for the first."""
    asked = []

    def fields(value: event_pb2.Event) -> dict[str, event_pb2.Event]:
        asked.append(value)
        return {"event": value}

    respond, event = encoding_responder(Response, fields), event_pb2.Event(event_id="a")
    bodies = {respond(stream_pb2.StreamHeader(sequence=n), event).SerializeToString()[-5:] for n in range(1_000)}
    assert (len(asked), len(bodies)) == (1, 1)


def test_control_messages_are_each_readers_own() -> None:
    """A heartbeat is not shared."""
    respond = encoding_responder(Response, lambda value: {"event": value})
    answer = respond(stream_pb2.StreamHeader(sequence=3), stream_pb2.StreamHeartbeat(queue_length=2))
    assert (answer.header.sequence, answer.heartbeat.queue_length) == (3, 2)


def test_results_are_bounded_and_told_apart_by_identity() -> None:
    """Equal objects are not the same one, and an old one is made again."""
    once = Once(lambda one, other: [one, other], capacity=2)
    a, b, c = [1], [1], [2]
    first = once(a, b)
    assert once(a, b) is first
    assert once(b, a) is not first
    once(a, c)
    assert once(a, b) is not first
    assert once.made == 4
