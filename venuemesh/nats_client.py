"""The one door to nats-py, opened without aiohttp.

nats-py imports aiohttp where it is installed, for brokers behind a WebSocket alone: 8 MB of every service. It does
without where there is none, so it is hidden from that one import and given back by `allow_websocket` to those who need
it. Import nats-py's names from here, never from `nats` itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Make `import name` fail inside the block, unless somebody has paid for it already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # the import system's own way to say "not there"
    try:
        yield
    finally:
        del sys.modules[name]


with _hidden("aiohttp"):
    from nats.aio import transport
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.errors import Error as NatsError
    from nats.js import JetStreamContext
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig
    from nats.js.errors import APIError, BadRequestError, NotFoundError

__all__ = [
    "APIError",
    "AckPolicy",
    "BadRequestError",
    "Client",
    "ConsumerConfig",
    "DeliverPolicy",
    "DiscardPolicy",
    "JetStreamContext",
    "Msg",
    "NatsError",
    "NotFoundError",
    "StorageType",
    "StreamConfig",
    "Subscription",
    "allow_websocket",
]


def allow_websocket() -> None:
    """Let connections to `ws://` and `wss://` brokers be made from now on."""
    import aiohttp
    import multidict

    vars(transport).update(aiohttp=aiohttp, multidict=multidict)
