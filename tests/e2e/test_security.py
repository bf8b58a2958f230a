"""The whole mesh under TLS: every method of every service against every kind of caller."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.local.mesh import secured_services
from deploy.local.routing_walk import RoutedSetting
from deploy.local.split_walk import SplitWalk
from deploy.local.walkthrough import Setting, walk
from tests.e2e.mesh import ACCOUNT_ID, SYMBOL, VENUE, Mesh, by_key, limit_order, market_order, running_mesh
from venuemesh.channels import open_channel
from venuemesh.clock import SystemClock
from venuemesh.secrets import Secret
from venuemesh.security.__main__ import mint_from
from venuemesh.security.grants import SCOPE_NAMES, SCOPES
from venuemesh.security.tokens import narrow
from venuemesh.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    options_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
)

CODE = grpc.StatusCode
DENIED = {CODE.UNAUTHENTICATED, CODE.PERMISSION_DENIED}
GARBLED = b"\xff"
"""No message of any type: a call that is admitted is refused for this and does nothing."""
SERVICES = ("gateway_hyperliquid", "gateway_lighter", "router", "aggregator")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("secured-mesh"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """One mesh for the module; this machine makes more wrong calls a second than a stranger may."""
    more = {f"{name.upper()}_GRPC__FAILED_AUTHENTICATIONS": "100000" for name in (*SERVICES, "gateway_tradexyz")}
    async with running_mesh(tmp_path_factory.mktemp("secured"), settings=more, secured=True) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Method:
    """One method as reflection tells it."""

    name: str
    scope: int
    proto: MethodDescriptorProto


async def listed(channel: grpc.aio.Channel) -> list[Method]:
    """Every method of every service of ours that the server describes; health and reflection are not ours."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = [service.name for service in (await call.read()).list_services_response.service]
    found = []
    for name in names:
        if name.startswith("grpc."):
            continue
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        for raw in (await call.read()).file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(raw)
            for service in file.service:
                if f"{file.package}.{service.name}" == name:
                    found += [
                        Method(f"/{name}/{each.name}", each.options.Extensions[options_pb2.policy].scope, each)
                        for each in service.method
                    ]
    call.cancel()
    return found


async def outcome_without_writing(call: Any) -> grpc.StatusCode:
    """Status of a call that the server ends unasked: grpc.aio answers INTERNAL for a write that meets the end."""
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    code: grpc.StatusCode = await call.code()
    return code


async def outcome(channel: grpc.aio.Channel, method: Method, token: Secret | None) -> grpc.StatusCode:
    """Status of one call that can do nothing."""
    metadata = () if token is None else (("authorization", f"Bearer {token.reveal()}"),)
    proto = method.proto
    try:
        if proto.client_streaming:
            return await outcome_without_writing(channel.stream_stream(method.name)(metadata=metadata, timeout=10))
        if proto.server_streaming:
            stream = channel.unary_stream(method.name)(GARBLED, metadata=metadata, timeout=10)
            await stream.read()
            return await stream.code()
        await channel.unary_unary(method.name)(GARBLED, metadata=metadata, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return CODE.OK


@pytest.mark.parametrize("service", SERVICES)
async def test_every_method_admits_its_scope_and_nothing_else(mesh: Mesh, service: str) -> None:
    """No token, an expired one, each scope alone: the printed matrix is what the contract declares."""
    assert mesh.security is not None
    keys = mesh.security.keys_file
    tokens = {name: mint_from(keys, f"only-{name}", [f"scopes={name}"]) for name in SCOPES}
    expired = mint_from(keys, "late", ["scopes=read,trade,risk,operate", "before=2020-01-01T00:00:00Z"])
    target = mesh.known[service]["grpc_address"]
    tls = mesh.security.channel_files("client")
    async with asyncio.timeout(120), open_channel(target, tls=tls, token=tokens["read"]) as describing:
        methods = await listed(describing)
        assert methods
        async with open_channel(target, tls=tls) as channel:
            print(f"\n{service}: method, scope, and who is admitted")
            for method in methods:
                declared = SCOPE_NAMES[method.scope]
                assert await outcome(channel, method, None) is CODE.UNAUTHENTICATED, method.name
                assert await outcome(channel, method, expired) is CODE.UNAUTHENTICATED, method.name
                codes = {name: await outcome(channel, method, token) for name, token in tokens.items()}
                admitted = [name for name, code in codes.items() if code not in DENIED]
                print(f"  {method.name.rpartition('.')[2]:<55} {declared:<8} {','.join(admitted)}")
                assert admitted == [declared], (method.name, codes)
                assert {codes[name] for name in SCOPES if name != declared} == {CODE.PERMISSION_DENIED}


async def test_reflection_needs_a_token_and_health_does_not(mesh: Mesh) -> None:
    """The contract of a wide binding is told to readers; the kubelet has no token."""
    assert mesh.security is not None
    async with open_channel(mesh.known["router"]["grpc_address"], tls=mesh.security.channel) as channel:
        await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        assert await outcome_without_writing(stub.ServerReflectionInfo(timeout=10)) is CODE.UNAUTHENTICATED


async def test_gateway_refuses_a_caller_without_a_certificate(mesh: Mesh) -> None:
    """A token alone does not reach a gateway: only router, aggregator and operators connect."""
    assert mesh.security is not None
    anonymous = mesh.security.channel_files("client")
    tls = type(anonymous)(ca_file=anonymous.ca_file)
    async with open_channel(
        mesh.known["gateway_lighter"]["grpc_address"], tls=tls, token=mesh.security.token
    ) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
        assert caught.value.code() is CODE.UNAVAILABLE


async def test_limits_of_a_token_hold_through_the_router_and_at_the_gateway(mesh: Mesh) -> None:
    """Account, venue and worth, narrowed by the holder: the gateway holds a call of the router's to the caller's."""
    assert mesh.security is not None
    trader = mint_from(mesh.security.keys_file, "bot", ["scopes=read,trade", f"accounts={ACCOUNT_ID}"])
    small = narrow(trader, ["max_notional=100", "venues=hyperliquid"])
    target = mesh.known["router"]["grpc_address"]
    async with asyncio.timeout(60), open_channel(target, tls=mesh.security.channel, token=small) as channel:
        orders: Any = order_service_pb2_grpc.OrderServiceStub(channel)
        accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        reply = await orders.SubmitOrder(limit_order("within", price="50000", quantity="0.001"))
        assert reply.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED
        for key, request in (
            ("worth", limit_order("worth", price="50000", quantity="0.01")),
            ("market", market_order("market", quantity="0.01")),
            ("venue", market_order("venue", quantity="0.0001", venue="lighter")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await orders.SubmitOrder(request)
            assert caught.value.code() is CODE.PERMISSION_DENIED, key
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await accounts.ListBalances(
                account_service_pb2.ListBalancesRequest(account_id="other", venue="hyperliquid")
            )
        assert caught.value.code() is CODE.PERMISSION_DENIED
        canceled = await orders.CancelOrder(order_service_pb2.CancelOrderRequest(reference=by_key("within")))
        assert canceled.order.terms.client_order_id == "within"


async def test_certificates_replaced_while_orders_flow_fail_no_call(mesh: Mesh) -> None:
    """A new root and new certificates for everybody: calls go on, and the router comes back with its new one."""
    assert mesh.security is not None
    before = {name: certificates_read(mesh, name) for name in ("gateway_hyperliquid", "router")}
    orders = mesh.orders()
    request = order_service_pb2.GetOrderRequest(reference=by_key("rotation"))
    await orders.SubmitOrder(limit_order("rotation", price="50000", quantity="0.001"), timeout=10)
    mesh.security.renew_certificates(secured_services(), SystemClock())
    calls = 0
    async with asyncio.timeout(30):
        while not all(certificates_read(mesh, name) > read for name, read in before.items()) or calls < 200:
            await orders.GetOrder(request, timeout=10)
            calls += 1
    reply = await orders.CancelOrder(order_service_pb2.CancelOrderRequest(reference=by_key("rotation")), timeout=10)
    assert reply.order.terms.client_order_id == "rotation"


def certificates_read(mesh: Mesh, service: str) -> int:
    """How often a service has taken new files for its server."""
    return (mesh.logs / f"{service}.log").read_text().count("certificate_read")


PLAN = json.dumps(
    {
        "order": {
            "account_id": "main",
            "client_order_id": "plan-1",
            "symbol": "BTC/USDC:USDC",
            "side": "SIDE_BUY",
            "order_type": "ORDER_TYPE_MARKET",
            "quantity": "0.001",
        },
        "instruction": {"strategy": "ROUTING_STRATEGY_BEST_PRICE"},
    }
)
REFLECTED_CALLS = (
    ("router", "VenueService/ListVenues", "{}"),
    ("router", "InstrumentService/ListInstruments", '{"venue": "hyperliquid", "page_size": 1}'),
    ("router", "MarketDataService/GetOrderBook", '{"venue": "hyperliquid", "symbol": "BTC/USDC:USDC", "depth": 1}'),
    ("router", "OrderService/ListOrders", '{"account_id": "main", "venue": "hyperliquid"}'),
    ("router", "AccountService/ListAccounts", "{}"),
    ("router", "RoutingService/PlanRoute", PLAN),
    ("router", "RiskService/GetRiskState", "{}"),
    ("router", "ReconciliationService/ListUncertainOrders", '{"account_id": "main"}'),
    ("router", "OperationsService/GetQuota", '{"venue": "hyperliquid"}'),
    ("aggregator", "PortfolioService/GetPortfolio", "{}"),
)
"""A call on the services, known by reflection alone."""


@pytest.mark.parametrize(("service", "method", "request_text"), REFLECTED_CALLS)
async def test_buf_curl_calls_over_tls_with_a_token_and_no_proto_files(
    mesh: Mesh, service: str, method: str, request_text: str
) -> None:
    """The tool that an operator has at hand; the answer is the method's JSON."""
    assert mesh.security is not None
    address = mesh.known[service]["grpc_address"]
    said = await run_tool(
        *(str(Path(sys.executable).parent / "buf"), "curl", "--protocol", "grpc", "--reflect-header", "*"),
        *("--cacert", str(mesh.security.channel.ca_file)),
        *("--header", f"authorization: Bearer {mesh.security.token.reveal()}"),
        *("--data", request_text, f"https://{address}/venuemesh.v1.{method}"),
    )
    assert isinstance(json.loads(said), dict)


@pytest.mark.skipif(shutil.which("grpcurl") is None, reason="grpcurl is not installed")
@pytest.mark.parametrize(("service", "method", "request_text"), REFLECTED_CALLS)
async def test_grpcurl_lists_describes_and_calls_over_tls_with_a_token(
    mesh: Mesh, service: str, method: str, request_text: str
) -> None:
    """The same with the tool that most people know."""
    assert mesh.security is not None
    address = mesh.known[service]["grpc_address"]
    secured = (
        *("grpcurl", "-cacert", str(mesh.security.channel.ca_file)),
        *("-H", f"authorization: Bearer {mesh.security.token.reveal()}"),
    )
    name = f"venuemesh.v1.{method}"
    assert name.partition("/")[0] in (await run_tool(*secured, address, "list")).split()
    assert "rpc" in await run_tool(*secured, address, "describe", name.replace("/", "."))
    assert isinstance(json.loads(await run_tool(*secured, "-d", request_text, address, name)), dict)


async def run_tool(*command: str) -> str:
    """Standard output of a command that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_walk_through_holds_over_tls_with_a_token(mesh: Mesh) -> None:
    """Everything `make run ARGS=--tls` shows: order, best price, split, refusal by a limit."""
    assert mesh.security is not None
    known, run_id = mesh.known, "walk"
    first = Setting(
        router=known["router"]["grpc_address"],
        aggregator=known["aggregator"]["grpc_address"],
        venue=VENUE,
        account_id=ACCOUNT_ID,
        symbol=SYMBOL,
        run_id=run_id,
        tls=mesh.security.channel,
        token=mesh.security.token,
    )
    routed = RoutedSetting(
        venues=("hyperliquid", "lighter"), account_id=ACCOUNT_ID, symbol=SYMBOL, quantity="0.01", run_id=run_id
    )
    said: list[str] = []
    async with asyncio.timeout(60):
        await walk(first, said.append, (), routed)
        async with open_channel(first.router, tls=first.tls, token=first.token) as router:
            await SplitWalk(routed, said.append, router).run()
    assert any("over the limit" in line for line in said)
