"""Order sessions at a gateway: the account's own events, and orders that end with their session."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from venuemesh.gateway.services.account_feed import AccountFeeds
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.session_book import OpenSession
from venuemesh.gateway.session_cancels import SessionCancels
from venuemesh.order_session import SessionTerms
from venuemesh.session_stream import METHOD, Opened
from venuemesh.stream_options import StreamTerms
from venuemesh.streaming import StreamPlan, Topic
from venuemesh.v1 import event_pb2


class GatewaySession:
    """One session of an account; a `venuemesh.session_stream.SessionPort`."""

    def __init__(self, sessions: SessionCancels, terms: SessionTerms, topic: Topic[Any]) -> None:
        self.topic = topic
        self.plan: StreamPlan[Any]
        self.settled = asyncio.Event()
        self._sessions = sessions
        self._terms = terms
        self._session_id = ""

    def attached(self, opened: Opened) -> None:
        """Orders may join it from here on."""
        self._session_id = opened.session_id
        session = OpenSession(self._terms.account_id, cancel_on_disconnect=self._terms.cancel_on_disconnect)
        self._sessions.open(opened.session_id, session)

    def over(self) -> None:
        """It is gone."""
        self._sessions.close(self._session_id, self.settled)

    def owns(self, value: Any) -> bool:
        """Whether an event is of one of its orders."""
        return isinstance(value, event_pb2.Event) and value.execution_report.order.session_id == self._session_id


async def open_session(
    parts: GatewayParts, feeds: AccountFeeds, terms: SessionTerms, context: Context
) -> GatewaySession:
    """A session with these terms.

    Raises:
        InvalidRequest, AccountNotFound: another venue is named, or an account that is not here.
        JournalUnavailable: what was restored is not durable yet.
    """
    parts.desk.check_venue(terms.venue, "logon.venue")
    parts.desk.account(terms.account_id, "logon.account_id")
    feed = feeds.get(terms.account_id)
    session = GatewaySession(parts.sessions, terms, feed.topic)
    plan = await feed.plan(
        StreamTerms(heartbeat_s=terms.heartbeat_s),
        lambda _: (),
        method=METHOD,
        context=context,
        accepts=session.owns,
        link_state=parts.market.link_state,
    )
    # It has no orders yet, so there is nothing to show.
    session.plan = replace(plan, snapshot=None)
    return session
