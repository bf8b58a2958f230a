"""Methods of a gateway that answer NOT_IMPLEMENTED: a list that can only shrink."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from tests.unit.venuemesh.gateway.gateway_world import Caller, gateway
from venuemesh.configuration import Configuration
from venuemesh.draining import Drain
from venuemesh.errors import MeshError, NotYetImplemented
from venuemesh.gateway.services.register import build_services
from venuemesh.metrics import Metrics
from venuemesh.settings import ServiceSettings

NOT_IMPLEMENTED = {
    "OperationsService/ListCircuitBreakers",
    "OperationsService/SetCircuitBreaker",
    "RiskService/ListLimits",
    "RiskService/StreamRiskEvents",
    "RiskService/UpdateLimit",
}


async def _one(request: Any) -> AsyncIterator[Any]:
    yield request


async def _answers_not_implemented(servicer: Any, method: MethodDescriptor) -> bool:
    request: Any = message_factory.GetMessageClass(method.input_type)()
    if method.client_streaming:
        request = _one(request)
    handler = getattr(servicer, method.name)
    try:
        if inspect.isasyncgenfunction(handler):
            stream = handler(request, Caller())
            await anext(stream)
            await stream.aclose()
        else:
            await handler(request, Caller())
    except NotYetImplemented as error:
        assert error.metadata["method"] == method.name
        return True
    except MeshError:
        # It is served and refuses the empty request.
        return False
    return False


async def test_methods_that_are_not_implemented_are_exactly_the_committed_ones() -> None:
    """A method that is served now must leave the list; none may ever join it."""
    async with gateway() as world:
        found = set()
        for served in build_services(world.core, Drain(), Metrics(), configuration=Configuration(ServiceSettings())):
            for method in served.descriptor.methods:
                if await _answers_not_implemented(served.servicer, method):
                    found.add(f"{served.descriptor.name}/{method.name}")
    assert found == NOT_IMPLEMENTED


async def test_every_method_of_the_contract_is_defined_by_its_servicer() -> None:
    """None is left to the generated base class, whose refusal has no reason."""
    async with gateway() as world:
        for served in build_services(world.core, Drain(), Metrics(), configuration=Configuration(ServiceSettings())):
            for method in served.descriptor.methods:
                assert method.name in vars(type(served.servicer)), f"{served.descriptor.name}/{method.name}"
                handler = getattr(served.servicer, method.name)
                assert inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)
