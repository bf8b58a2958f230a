"""Start, health, reflection, drain: the life of a service's gRPC server.

    server = GrpcServer(settings.grpc, metrics=metrics, tracing=tracing, clock=clock)
    server.add(ORDER_SERVICE_DESCRIPTOR, add_OrderServiceServicer_to_server, OrderServicer(...))
    async with asyncio.TaskGroup() as tasks:
        pump = tasks.create_task(stream.run(), name="stream")
        await serve_until_stopped(server, ready=stream.ready, flush=[bus.flush])
        pump.cancel()

A pump that fails makes the group cancel `serve_until_stopped`, which stops the server at once and passes the
cancellation on; the process then exits non-zero through `run_service`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import grpc.aio
import uvloop
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from venuemesh.call_policy import CallPolicy
from venuemesh.clock import Clock, SystemClock
from venuemesh.draining import Drain, OpenStreams
from venuemesh.interceptors import MeshInterceptor, Trailers
from venuemesh.limits import CallerLimits, CallLimits
from venuemesh.metrics import Metrics
from venuemesh.money import use_exact_arithmetic
from venuemesh.probing import LIVE, ProbeServer
from venuemesh.reflection import add_reflection
from venuemesh.security.authority import Authority, KeyFileError
from venuemesh.security.certificates import CertificateError, server_credentials
from venuemesh.settings import GrpcSettings, SettingsError
from venuemesh.telemetry import Tracing
from venuemesh.v1 import options_pb2

log = logging.getLogger(__name__)

OVERALL = ""
HEALTH_SERVICE = "grpc.health.v1.Health"
EXIT_FAILED = 1
EXIT_SETTINGS = 2
FLUSH_TIMEOUT_S = 5.0
EVICTION_S = 1.0
_CORE_HEADROOM = 4
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_COLLECT_AFTER = (2_000, 20, 50)  # allocations, young collections, middle collections: a pause each

Add = Callable[[Any, grpc.aio.Server], None]
Flush = Callable[[], Awaitable[None]]


class ServingError(Exception):
    """The server cannot start; the text says why."""


class PumpEnded(Exception):
    """A task that must run as long as the process has returned."""


class Health:
    """grpc.health.v1 with one status per name: `""` is the whole process, a service, `venue/<venue>`, or `live`.

    `live` is SERVING from the start to the drain, whatever venue and broker do: every call gets an answer then, and
    cancels get through. Restarts and load balancers go by it.
    """

    def __init__(self) -> None:
        self.servicer = health_aio.HealthServicer()
        self._serving: dict[str, bool] = {}

    async def set(self, name: str, serving: bool) -> None:
        """Tell watchers when it changed. Ignored once the drain has begun."""
        if self._serving.get(name) is serving:
            return
        self._serving[name] = serving
        status = health_pb2.HealthCheckResponse
        await self.servicer.set(name, status.SERVING if serving else status.NOT_SERVING)

    def is_serving(self, name: str) -> bool:
        """The last status set; False for a name never set."""
        return self._serving.get(name, False)

    async def drain(self) -> None:
        """Every name NOT_SERVING, for good."""
        self._serving = dict.fromkeys(self._serving, False)
        await self.servicer.enter_graceful_shutdown()


class GrpcServer:
    """A grpc.aio server with everything the house expects of one.

    Args:
        settings: binding, limits, times.
        deadlines_s: bound per method (full name) of unary calls whose client set none; the contract's own otherwise.
    Raises:
        ServingError: a token or TLS file cannot be read.
    """

    def __init__(
        self,
        settings: GrpcSettings,
        *,
        metrics: Metrics,
        tracing: Tracing,
        clock: Clock | None = None,
        deadlines_s: Mapping[str, float] | None = None,
    ) -> None:
        self.settings = settings
        self.health = Health()
        self.drain = Drain()
        self.streams = OpenStreams()
        self.callers = CallerLimits(settings.call_limits)
        """What callers are held to; changed by `limit_callers`."""
        self.port = 0
        self.probe_port = 0
        """Of the listener for probes; 0 when there is none."""
        self.trailers: Trailers | None = None
        """Trailing metadata of every answer; set it before `start`."""
        self.own_venue = ""
        """The venue that an empty venue field of a request means; set it before `start`."""
        self._services: list[tuple[ServiceDescriptor, Add, Any]] = []
        self._metrics = metrics
        self._tracing = tracing
        self._clock = clock or SystemClock()
        self._deadlines_s = dict(deadlines_s or {})
        self._server: grpc.aio.Server | None = None
        self._probes: ProbeServer | None = None

    def add(self, descriptor: ServiceDescriptor, add: Add, servicer: Any) -> None:
        """Serve `servicer`: `add` is the generated `add_<Service>Servicer_to_server`. Before `start` only."""
        if self._server is not None:
            raise RuntimeError("services are added before the server starts")
        self._services.append((descriptor, add, servicer))

    def limit_callers(self, limits: CallLimits) -> None:
        """Hold callers to other bounds than those of `settings`."""
        self.callers.change(limits, self._clock.monotonic_s())

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the services added."""
        return tuple(descriptor.full_name for descriptor, _, _ in self._services)

    @property
    def address(self) -> str:
        """`host:port` as bound; meaningful once started."""
        return _address(self.settings.host, self.port)

    async def start(self) -> int:
        """Bind and serve, `live` SERVING and every other health status not; returns the bound port.

        Raises:
            ServingError: the address is taken or not ours, or a file cannot be read.
        """
        # A server whose start fails must not stay half made: grpc.aio would finish it in __del__.
        credentials, policy = self._credentials(), self._policy()
        interceptor = MeshInterceptor(
            policy,
            self.callers,
            metrics=self._metrics,
            tracing=self._tracing,
            clock=self._clock,
            drain=self.drain,
            streams=self.streams,
            trailers=self.trailers,
        )
        server = grpc.aio.server(interceptors=(interceptor,), options=self._options())
        for _, add, servicer in self._services:
            add(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, server)
        add_reflection(server, (*self.services, HEALTH_SERVICE))
        address = _address(self.settings.host, self.settings.port)
        try:
            if credentials is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            await server.stop(None)
            raise ServingError(f"cannot bind to {address}: {error}") from None
        for name in (OVERALL, *self.services):
            await self.health.set(name, False)
        await self._start_probes(server)
        await server.start()
        self._server = server
        await self.health.set(LIVE, True)
        log.info("grpc_server_started", extra={"address": self.address, "services": list(self.services)})
        return self.port

    async def set_serving(self, serving: bool) -> None:
        """Health of the process and of every service; venues have names of their own."""
        for name in (OVERALL, *self.services):
            await self.health.set(name, serving)

    async def drain_and_stop(self) -> None:
        """The orderly end; takes at most the pause and twice the grace.

        NOT_SERVING, the pause while endpoints drop, then new streams are refused and the drain signal lets
        streams say goodbye; those that do not are ended with UNAVAILABLE. Unary calls, cancels among them,
        are served until the last step, `server.stop(grace)`.
        """
        settings = self.settings
        log.info("draining", extra={"open_streams": len(self.streams)})
        await self.health.drain()
        await asyncio.sleep(settings.drain_pause_s)
        self.drain.begin()
        self.streams.evict(deaf_only=True)
        if not await self.streams.wait_closed(settings.drain_grace_s):
            log.warning("streams_evicted", extra={"open_streams": self.streams.evict()})
            await self.streams.wait_closed(EVICTION_S)
        await self._stop(settings.drain_grace_s)

    async def stop_now(self) -> None:
        """Stop without grace: calls in flight are cancelled."""
        self.drain.begin()
        await self._stop(None)

    async def _stop(self, grace_s: float | None) -> None:
        if self._server is not None:
            await self._server.stop(grace_s)
            log.info("grpc_server_stopped")
        if self._probes is not None:
            await self._probes.stop()

    async def _start_probes(self, server: grpc.aio.Server) -> None:
        if self.settings.probe_port is None:
            return
        address = _address(self.settings.probe_host, self.settings.probe_port)
        probes = ProbeServer(self.health.servicer)
        try:
            self.probe_port = await probes.start(address)
        except RuntimeError as error:
            await server.stop(None)
            raise ServingError(f"cannot bind to {address}: {error}") from None
        self._probes = probes
        log.info("probe_server_started", extra={"address": _address(self.settings.probe_host, self.probe_port)})

    def _policy(self) -> CallPolicy:
        settings = self.settings
        methods = {
            f"/{descriptor.full_name}/{method.name}": method
            for descriptor, _, _ in self._services
            for method in descriptor.methods
        }
        return CallPolicy(
            max_message_bytes=settings.max_message_bytes,
            default_deadline_s=settings.default_deadline_s,
            deadlines_s={**self._declared_deadlines(), **self._deadlines_s},
            reads=frozenset(name for descriptor, _, _ in self._services for name in read_methods(descriptor)),
            safety=frozenset(name for descriptor, _, _ in self._services for name in safety_methods(descriptor)),
            authority=self._authority(),
            scopes={name: method.GetOptions().Extensions[options_pb2.policy].scope for name, method in methods.items()},
            request_types={name: method.input_type for name, method in methods.items()},
            own_venue=self.own_venue,
        )

    def _authority(self) -> Authority | None:
        settings = self.settings
        if settings.token_keys_file is None and not settings.peers:
            return None
        try:
            return Authority(settings.token_keys_file, settings.peer_scopes, self._clock)
        except KeyFileError as error:
            raise ServingError(str(error)) from None

    def _declared_deadlines(self) -> dict[str, float]:
        """What the contract names for a client without a deadline of its own, by full method name."""
        return {
            f"/{descriptor.full_name}/{method.name}": policy.default_deadline_ms / 1_000
            for descriptor, _, _ in self._services
            for method in descriptor.methods
            if (policy := method.GetOptions().Extensions[options_pb2.policy]).default_deadline_ms
        }

    def _credentials(self) -> grpc.ServerCredentials | None:
        files = self.settings.tls_files
        if files is None:
            return None
        try:
            return server_credentials(files, self._clock)
        except CertificateError as error:
            raise ServingError(str(error)) from None

    def _options(self) -> tuple[tuple[str, Any], ...]:
        settings = self.settings
        return (
            # Two processes must not share a port unnoticed.
            ("grpc.so_reuseport", 0),
            # The interceptor refuses with a reason what exceeds the bound; the core, above this, without one.
            ("grpc.max_receive_message_length", _CORE_HEADROOM * settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
            # On, a burst of refusals counts against the streams above until Python has freed them, and callers
            # get a bare RST_STREAM instead of the limit they broke. The core still bounds its pending queue.
            ("grpc.http.overload_protection", 0),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", round(settings.keepalive_min_s * 1_000)),
        )


def _address(host: str, port: int) -> str:
    if host.startswith("unix"):
        return host
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def read_methods(descriptor: ServiceDescriptor) -> tuple[str, ...]:
    """Full names of the methods that declare `idempotency_level = NO_SIDE_EFFECTS`."""
    return tuple(
        f"/{descriptor.full_name}/{method.name}"
        for method in descriptor.methods
        if method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    )


def safety_methods(descriptor: ServiceDescriptor) -> tuple[str, ...]:
    """Full names of the methods whose policy says that they make things safer."""
    return tuple(
        f"/{descriptor.full_name}/{method.name}"
        for method in descriptor.methods
        if method.GetOptions().Extensions[options_pb2.policy].safety
    )


async def serve_until_stopped(
    server: GrpcServer,
    *,
    ready: asyncio.Event | None = None,
    stop: asyncio.Event | None = None,
    on_bound: Callable[[], None] | None = None,
    on_stop: Callable[[], None] | None = None,
    on_hangup: Callable[[], None] | None = None,
    flush: Sequence[Flush] = (),
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`; then drain, stop and flush.

    Args:
        server: not yet started.
        ready: the process turns SERVING once it is set; at once when None. Later changes are the owner's,
            through `server.set_serving` and `server.health`.
        stop: another way to ask for the end.
        on_bound: called once the server listens, whatever its health.
        on_stop: called when the end was asked for, before the drain: refuse new work from then on.
        on_hangup: called at each SIGHUP, which ends the process where it is None.
        flush: run one after the other when nothing is served any more, each within 5 s; a failing one is
            logged and keeps none of the others from running.
    """
    stop = stop or asyncio.Event()
    async with _on_signals(stop, on_hangup):
        await server.start()
        if on_bound is not None:
            on_bound()
        try:
            await _serve(server, ready, stop)
            if on_stop is not None:
                on_stop()
            await server.drain_and_stop()
        except BaseException:
            await asyncio.shield(server.stop_now())
            raise
        finally:
            for hook in flush:
                await _flush(hook)


async def _serve(server: GrpcServer, ready: asyncio.Event | None, stop: asyncio.Event) -> None:
    async def announce() -> None:
        if ready is not None:
            await ready.wait()
        await server.set_serving(True)
        log.info("serving", extra={"address": server.address})

    async with asyncio.TaskGroup() as tasks:
        announcing = tasks.create_task(announce(), name="announce-ready")
        await stop.wait()
        announcing.cancel()


async def _flush(hook: Flush) -> None:
    try:
        async with asyncio.timeout(FLUSH_TIMEOUT_S):
            await hook()
    except Exception:
        log.exception("flush_failed", extra={"hook": getattr(hook, "__qualname__", repr(hook))})


@asynccontextmanager
async def _on_signals(stop: asyncio.Event, on_hangup: Callable[[], None] | None) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        log.info("stop_asked", extra={"signal": number.name})
        stop.set()

    handlers: dict[signal.Signals, Callable[[], None]] = {number: partial(asked, number) for number in _STOP_SIGNALS}
    if on_hangup is not None:
        handlers[signal.SIGHUP] = on_hangup
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


async def endless(work: Awaitable[None], *, name: str) -> None:
    """Await a pump that must never end by itself: a process without it would look alive and do nothing.

    Raises:
        PumpEnded: it returned.
    """
    await work
    raise PumpEnded(f"{name} ended")


def run_service(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a service's `main` on a fast event loop; returns the exit code for `sys.exit`.

    0 after an orderly stop, 2 for settings that do not allow a start, 1 for everything else, with the
    cause logged.
    """
    use_exact_arithmetic()
    _spare_what_is_loaded()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except Exception as error:
        cause = _only_cause(error)
        if isinstance(cause, SettingsError):
            log.error("settings_wrong", extra={"faults": [str(fault) for fault in cause.faults]})
            return EXIT_SETTINGS
        if isinstance(cause, ServingError):
            log.error("start_failed", extra={"detail": str(cause)})
        else:
            log.exception("service_failed")
        return EXIT_FAILED
    return 0


def _spare_what_is_loaded() -> None:
    """Leave modules, descriptors and settings models out of every collection to come: they live as long as the process,
    and looking through them took tens of milliseconds in the middle of a message."""
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _only_cause(error: BaseException) -> BaseException:
    """What a task group wraps when only one thing went wrong."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
