"""What every client of the mesh needs: a channel, a submit that never guesses, a stream that misses nothing."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from venuemesh.v1 import order_pb2, order_service_pb2, stream_pb2

SERVICE_CONFIG = Path(__file__).resolve().parents[1] / "service_config.json"
STREAM_LIMIT_S = 60.0
"""An example ends; a real follower sets no deadline."""
READ_BACK_ATTEMPTS = 10
READ_BACK_PAUSE_S = 0.3
RECONNECT_ATTEMPTS = 5
RECONNECT_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the mesh is and what to trade, from `VENUEMESH_...` of the environment."""

    router: str
    aggregator: str
    ca_file: str
    token_file: str
    account_id: str
    venue: str
    symbol: str
    quantity: str

    @classmethod
    def from_environment(cls) -> Settings:
        """Defaults are those of the local mesh."""

        def setting(name: str, default: str) -> str:
            return os.environ.get(f"VENUEMESH_{name}", default)

        return cls(
            router=setting("ROUTER", "127.0.0.1:50050"),
            aggregator=setting("AGGREGATOR", "127.0.0.1:50060"),
            ca_file=setting("CA_FILE", ""),
            token_file=setting("TOKEN_FILE", ""),
            account_id=setting("ACCOUNT", "main"),
            venue=setting("VENUE", "hyperliquid"),
            symbol=setting("SYMBOL", "BTC/USDC:USDC"),
            quantity=setting("QUANTITY", "0.001"),
        )


def open_channel(target: str, settings: Settings) -> grpc.Channel:
    """A channel with the contract's deadlines and repeats; TLS and token where they are set.

    Raises:
        ValueError: a token without TLS, which anybody on the way could read.
    """
    config = json.loads(SERVICE_CONFIG.read_text())
    deadlines = Deadlines(config)
    options = [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
    ]
    if not settings.ca_file:
        if settings.token_file:
            raise ValueError("VENUEMESH_TOKEN_FILE needs VENUEMESH_CA_FILE: a token goes over TLS only")
        return grpc.intercept_channel(grpc.insecure_channel(target, options), deadlines)
    credentials = grpc.ssl_channel_credentials(Path(settings.ca_file).read_bytes())
    if settings.token_file:
        token = grpc.access_token_call_credentials(Path(settings.token_file).read_text().strip())
        credentials = grpc.composite_channel_credentials(credentials, token)
    return grpc.intercept_channel(grpc.secure_channel(target, credentials, options), deadlines)


class Deadlines(grpc.UnaryUnaryClientInterceptor):
    """Gives every unary call without a time-out that of the service config.

    grpcio fails calls early that take their time-out from the config itself (grpc/grpc#40633, seen with 1.82.3), so
    this takes them out of it. Repeats stay with grpcio.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._timeouts_s: dict[str, float] = {}
        for entry in config["methodConfig"]:
            timeout_s = float(entry.pop("timeout").removesuffix("s"))
            for name in entry["name"]:
                self._timeouts_s[f"/{name['service']}/{name['method']}"] = timeout_s

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        if client_call_details.timeout is None:
            timeout_s = self._timeouts_s.get(client_call_details.method)
            client_call_details = client_call_details._replace(timeout=timeout_s)
        return continuation(client_call_details, request)


class OutcomeUnknown(Exception):
    """The order may be live. Only the same key may be submitted again."""


class Orders:
    """Orders of one account; a lost answer is read back, never resent."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def submit(self, order: order_pb2.NewOrder) -> order_pb2.Order:
        """Submit once and say what became of it.

        Raises:
            grpc.RpcError: nothing was sent.
            OutcomeUnknown: nobody can tell yet.
        """
        key = order.client_order_id
        try:
            answer = self._stub.SubmitOrder(order_service_pb2.SubmitOrderRequest(order=order))
        except grpc.RpcError as error:
            if proved_not_sent(error):
                raise
            print(f"submit: {key} answer lost, {error.code().name}; reading back")
            return self._read_back(order)
        if answer.outcome in (order_service_pb2.SUBMIT_OUTCOME_UNKNOWN, order_service_pb2.SUBMIT_OUTCOME_PENDING):
            print(f"submit: {key} not settled yet; reading back")
            return self._read_back(order)
        found: order_pb2.Order = answer.order
        return found

    def _read_back(self, order: order_pb2.NewOrder) -> order_pb2.Order:
        reference = order_service_pb2.OrderReference(
            account_id=order.account_id, venue=order.venue, client_order_id=order.client_order_id
        )
        for _ in range(READ_BACK_ATTEMPTS):
            try:
                found: order_pb2.Order = self._stub.GetOrder(
                    order_service_pb2.GetOrderRequest(reference=reference)
                ).order
            except grpc.RpcError as error:
                # NOT_FOUND proves nothing: the submit may still be on its way.
                print(f"submit: {order.client_order_id} read back failed, {error.code().name}")
            else:
                if not found.uncertain and found.status != order_pb2.ORDER_STATUS_PENDING_NEW:
                    return found
            time.sleep(READ_BACK_PAUSE_S)
        raise OutcomeUnknown(f"{order.client_order_id} may be live; repeat only this key")


def proved_not_sent(error: grpc.RpcError) -> bool:
    """Whether the mesh itself says that no order was attempted; anything else counts as unknown."""
    status = rpc_status.from_call(cast(grpc.Call, error))
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == "venuemesh":
            return bool(info.metadata["sent"] == "no")
    return False


class Executions:
    """Execution reports of an account at a venue, each once and in order, over any number of connections."""

    def __init__(self, stub: Any, account_id: str, venue: str) -> None:
        self._stub = stub
        self._account_id = account_id
        self._venue = venue
        self._call: Any = None
        self.position: stream_pb2.StreamPosition | None = None
        """Of the last message handled. Written to a file, it resumes after a crash too."""

    @property
    def sequence(self) -> int:
        """Of the last message handled; 0 before the first."""
        return self.position.sequence if self.position is not None else 0

    def start(self) -> None:
        """Take the orders that are open now, without reporting them."""
        while self._next().WhichOneof("body") != "snapshot_end":
            pass
        print(f"executions: following from sequence {self.sequence}")

    def next_report(self) -> order_pb2.ExecutionReport:
        """Wait for the next report.

        Raises:
            grpc.RpcError: the stream is refused, or cannot be had again.
        """
        while True:
            message = self._next()
            if message.WhichOneof("body") == "event" and message.event.HasField("execution_report"):
                report: order_pb2.ExecutionReport = message.event.execution_report
                return report

    def cut(self) -> None:
        """Drop the connection; the next message is the one behind what was handled."""
        self._call.cancel()
        self._call = None
        print(f"executions: cut at sequence {self.sequence}")

    def _next(self) -> order_service_pb2.StreamExecutionReportsResponse:
        failures = 0
        while True:
            if self._call is None:
                self._call = self._open()
            why = "the server closed the stream"
            try:
                message: order_service_pb2.StreamExecutionReportsResponse | None = next(self._call, None)
            except grpc.RpcError as error:
                failures += 1
                if error.code() != grpc.StatusCode.UNAVAILABLE or failures > RECONNECT_ATTEMPTS:
                    raise
                message, why = None, error.code().name
            if message is not None and message.WhichOneof("body") != "closing" and self._follows(message):
                return message
            print(f"executions: lost at sequence {self.sequence}, {why}")
            self._call.cancel()
            self._call = None
            time.sleep(RECONNECT_PAUSE_S)

    def _open(self) -> Any:
        options = stream_pb2.StreamOptions(resume_after=self.position)
        request = order_service_pb2.StreamExecutionReportsRequest(
            account_id=self._account_id, venue=self._venue, options=options
        )
        return self._stub.StreamExecutionReports(request, timeout=STREAM_LIMIT_S)

    def _follows(self, message: order_service_pb2.StreamExecutionReportsResponse) -> bool:
        """Take the message's place in the numbering; False when one before it is missing."""
        header = message.header
        if message.HasField("acknowledgement"):
            if message.acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED:
                print(f"executions: resumed after sequence {self.sequence}")
            elif self.position is not None:
                # A snapshot follows. What ended in between is not in it: read ListOrders and ListFills.
                print(f"executions: not resumed, {message.acknowledgement.resume_note}")
                self.position = None
        elif header.sequence:
            if self.position is not None and header.previous_sequence not in (0, self.sequence):
                return False
            self.position = stream_pb2.StreamPosition(epoch=header.epoch, sequence=header.sequence)
        return True
