"""What a gateway says of itself: venue, accounts, instruments, health, reflection, and what it does not serve."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from tests.contract.client import CALL_S, Client, opened
from tests.contract.numbers import is_canonical
from tests.contract.refusals import read_refusal
from tests.unit.venuemesh.gateway.test_not_implemented import NOT_IMPLEMENTED
from venuemesh.v1 import (
    account_service_pb2,
    instrument_pb2,
    instrument_service_pb2,
    operations_service_pb2,
    options_pb2,
    order_pb2,
    venue_pb2,
    venue_service_pb2,
)

OURS = "venuemesh.v1."
SERVICES = {
    "VenueService",
    "InstrumentService",
    "MarketDataService",
    "OrderService",
    "AccountService",
    "ReconciliationService",
    "OperationsService",
}
NOWHERE = "no-such-venue"


async def reflected_services(client: Client, version: str) -> set[str]:
    """Names of all services, by one version of the reflection protocol."""
    method = client.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    async with opened(method(timeout=CALL_S)) as call:
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await call.done_writing()
        answer = await call.read()
        return {row.name for row in answer.list_services_response.service}


async def test_venue_is_the_same_by_every_method(gateway: Client) -> None:
    """GetVenue, ListVenues and GetCapabilities tell one story, and name an environment and an account."""
    listed = await gateway.venues.ListVenues(venue_service_pb2.ListVenuesRequest(), timeout=CALL_S)
    asked = venue_service_pb2.GetCapabilitiesRequest(venue=gateway.name)
    capabilities = (await gateway.venues.GetCapabilities(asked, timeout=CALL_S)).capabilities
    assert [row.venue for row in listed.venues] == [gateway.name]
    assert listed.venues[0].capabilities == capabilities == gateway.capabilities
    assert listed.venues[0].environment != venue_pb2.ENVIRONMENT_UNSPECIFIED
    assert gateway.account_id in listed.venues[0].account_ids
    assert listed.venues[0].status.state == venue_pb2.VENUE_STATE_TRADING
    assert listed.venues[0].status.links


async def test_capabilities_are_complete(gateway: Client) -> None:
    """Nothing that decides about orders is left unspecified, and nothing is listed twice."""
    record = gateway.capabilities
    types = [row.order_type for row in record.order_types]
    assert types
    assert len(set(types)) == len(types)
    for row in record.order_types:
        assert row.order_type in order_pb2.OrderType.values()
        assert row.order_type != order_pb2.ORDER_TYPE_UNSPECIFIED
        assert row.times_in_force
        assert order_pb2.TIME_IN_FORCE_UNSPECIFIED not in row.times_in_force
        assert order_pb2.EXECUTION_INSTRUCTION_UNSPECIFIED not in row.instructions
    assert record.amend_mode != venue_pb2.AMEND_MODE_UNSPECIFIED
    for provision in (record.cancel_all, record.dead_mans_switch, record.brackets, record.twap):
        assert provision != venue_pb2.PROVISION_UNSPECIFIED
    has_twap = any(kind == order_pb2.ORDER_TYPE_TWAP for kind in types)
    assert has_twap == (record.twap != venue_pb2.PROVISION_NONE)
    assert record.max_batch_orders >= 1
    assert record.max_batch_cancels >= 1
    assert record.settle_delay.ToNanoseconds() > 0
    assert record.book.stale_after.ToNanoseconds() > 0
    assert record.spot or record.perpetuals


async def test_accounts_are_listed_and_read(gateway: Client) -> None:
    """Every account can be read by its name, with margin and a place in its numbering."""
    request = account_service_pb2.ListAccountsRequest(venue=gateway.name)
    listed = (await gateway.accounts.ListAccounts(request, timeout=CALL_S)).accounts
    assert [row.account_id for row in listed] == sorted(gateway.venue.account_ids)
    account = await gateway.account()
    assert (account.venue, account.account_id) == (gateway.name, gateway.account_id)
    assert account.venue_account
    assert account.position.epoch
    assert Decimal(account.summary.equity) > 0


async def test_instruments_have_rules_an_order_can_follow(gateway: Client) -> None:
    """Over all pages: symbols rise and are unique, every number is canonical, a price rule bounds prices."""
    rows: list[instrument_pb2.Instrument] = []
    token = ""
    while True:
        request = instrument_service_pb2.ListInstrumentsRequest(venue=gateway.name, page_size=50, page_token=token)
        answer = await gateway.instruments.ListInstruments(request, timeout=CALL_S)
        assert len(answer.instruments) <= 50
        rows += answer.instruments
        token = answer.next_page_token
        if not token:
            break
    symbols = [row.symbol for row in rows]
    assert symbols == sorted(set(symbols))
    assert gateway.symbol in symbols
    kinds = {row.instrument_type for row in rows}
    assert (instrument_pb2.INSTRUMENT_TYPE_PERPETUAL in kinds) <= gateway.capabilities.perpetuals
    assert (instrument_pb2.INSTRUMENT_TYPE_SPOT in kinds) <= gateway.capabilities.spot
    for row in rows:
        assert row.venue == gateway.name
        assert row.venue_symbol
        assert row.instrument_type != instrument_pb2.INSTRUMENT_TYPE_UNSPECIFIED
        assert row.state != instrument_pb2.INSTRUMENT_STATE_UNSPECIFIED
        assert Decimal(row.quantity_rule.step_size) > 0
        rule = row.price_rule
        assert rule.HasField("tick_size") or rule.HasField("max_significant_figures") or rule.HasField("max_decimals")
        for text in decimals_of(row):
            assert is_canonical(text), (row.symbol, text)


async def test_instrument_updates_begin_with_all_that_is_listed(gateway: Client) -> None:
    """Acknowledgement, then every instrument as the list shows it; a heartbeat says that nothing else came."""
    request = instrument_service_pb2.StreamInstrumentUpdatesRequest(venue=gateway.name)
    request.options.heartbeat_interval_ms = 1_000
    rows: dict[str, instrument_pb2.Instrument] = {}
    async with opened(gateway.instruments.StreamInstrumentUpdates(request, timeout=CALL_S)) as stream:
        assert (await stream.read()).WhichOneof("body") == "acknowledgement"
        while (message := await stream.read()).WhichOneof("body") == "instrument":
            rows[message.instrument.symbol] = message.instrument
        assert message.WhichOneof("body") == "heartbeat"
    listed = instrument_service_pb2.ListInstrumentsRequest(venue=gateway.name, page_size=1_000)
    answer = await gateway.instruments.ListInstruments(listed, timeout=CALL_S)
    assert {row.symbol for row in answer.instruments} <= set(rows)


def decimals_of(message: Any) -> list[str]:
    """Every field of a message that the contract marks as decimal and that is set."""
    found: list[str] = []
    for field, value in message.ListFields():
        if field.message_type is not None and not field.is_repeated:
            found += decimals_of(value)
        elif not field.is_repeated and any(option.name == "decimal" for option, _ in field.GetOptions().ListFields()):
            found.append(value)
    return found


async def test_health_names_the_process_each_service_and_the_venue(gateway: Client) -> None:
    """All of them serve; a name that does not exist is NOT_FOUND."""
    stub: Any = health_pb2_grpc.HealthStub(gateway.channel)
    for name in ("", f"venue/{gateway.name}", *(OURS + service for service in SERVICES)):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="venue/nowhere"), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_every_service_of_a_gateway(gateway: Client, version: str) -> None:
    """By both versions of the protocol, so that every tool can explore."""
    names = await reflected_services(gateway, version)
    assert {name.removeprefix(OURS) for name in names if name.startswith(OURS)} >= SERVICES
    assert "grpc.health.v1.Health" in names


async def test_only_the_committed_methods_are_not_implemented(gateway: Client) -> None:
    """Every method the gateway reflects is called with a request that does nothing."""
    pool = descriptor_pool.Default()
    names = sorted(name for name in await reflected_services(gateway, "v1") if name.startswith(OURS))
    found = set()
    for service in names:
        for method in pool.FindServiceByName(service).methods:
            name = f"{service.removeprefix(OURS)}/{method.name}"
            if is_safe(method) and await is_not_implemented(gateway, service, method):
                found.add(name)
    assert found <= NOT_IMPLEMENTED


def reads_only(method: MethodDescriptor) -> bool:
    """Whether a call changes nothing."""
    return bool(method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS)


def is_safe(method: MethodDescriptor) -> bool:
    """Whether an empty request, or one for no venue, can do no harm: not so what concerns the whole mesh."""
    scope = method.GetOptions().Extensions[options_pb2.policy].scope
    far_reaching = scope in (options_pb2.SCOPE_OPERATE, options_pb2.SCOPE_RISK)
    return reads_only(method) or not far_reaching or "venue" in method.input_type.fields_by_name


async def is_not_implemented(client: Client, service: str, method: MethodDescriptor) -> bool:
    """Whether the method answers NOT_IMPLEMENTED; any other refusal must be a whole one too."""
    request = harmless(method)
    answer = message_factory.GetMessageClass(method.output_type)
    made = {"request_serializer": type(request).SerializeToString, "response_deserializer": answer.FromString}
    path = f"/{service}/{method.name}"
    try:
        if method.client_streaming:
            async with opened(client.channel.stream_stream(path, **made)(iter(()), timeout=CALL_S)) as stream:
                await stream.read()
        elif method.server_streaming:
            async with opened(client.channel.unary_stream(path, **made)(request, timeout=CALL_S)) as stream:
                await stream.read()
        else:
            await client.channel.unary_unary(path, **made)(request, timeout=CALL_S)
    except grpc.aio.AioRpcError as error:
        refusal = read_refusal(error)
        if refusal.reason == "NOT_IMPLEMENTED":
            assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
            return True
    return False


def harmless(method: MethodDescriptor) -> Any:
    """An empty request; one that changes something names a venue that does not exist."""
    request: Any = message_factory.GetMessageClass(method.input_type)()
    if not reads_only(method) and "venue" in method.input_type.fields_by_name:
        request.venue = NOWHERE
    return request


async def test_quotas_have_bounds(gateway: Client) -> None:
    """Of each limiter no more is left than there is."""
    answer = await gateway.operations.GetQuota(operations_service_pb2.GetQuotaRequest(), timeout=CALL_S)
    names = [row.limiter for row in answer.quotas]
    assert len(set(names)) == len(names)
    for row in answer.quotas:
        assert row.venue == gateway.name
        assert row.reserved_for_cancels <= row.limit
        assert row.remaining <= row.limit
