"""The adapter's parts, wired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway_lighter.account_actions import AccountActions
from gateway_lighter.account_reads import AccountReads
from gateway_lighter.keys import Wallet, load_wallets
from gateway_lighter.links import Links
from gateway_lighter.market_reads import MarketReads
from gateway_lighter.market_stream import MarketStream
from gateway_lighter.order_actions import OrderActions
from gateway_lighter.order_ids import ClientIndices
from gateway_lighter.private_stream import PrivateStream
from gateway_lighter.quotas import Quotas
from gateway_lighter.rest import LighterRest
from gateway_lighter.sender import Sender
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.stream import StreamConfig
from gateway_lighter.views import AccountView, Directory
from venuemesh.clock import Clock
from venuemesh.transport.observer import Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the adapter is made of; mappings are by account id."""

    links: Links
    rest: LighterRest
    directory: Directory
    indices: ClientIndices
    wallets: Mapping[str, Wallet]
    market: MarketStream
    queries: MarketReads
    private: Mapping[str, PrivateStream]
    reads: Mapping[str, AccountReads]
    send: Sender
    orders: OrderActions
    actions: AccountActions
    quotas: Quotas


def build_parts(
    settings: GatewaySettings,
    clock: Clock,
    *,
    observer: Observer | None,
    stream_config: StreamConfig | None,
    sleep: Callable[[float], Awaitable[None]],
) -> Parts:
    """Wire everything; no connection is made.

    Raises:
        SecretError, AuthenticationFailed: a key cannot be read.
    """
    wallets = load_wallets(settings, clock)
    links = Links(
        settings, clock=clock, observer=observer, accounts=len(settings.accounts), stream_config=stream_config
    )
    directory, indices, public = Directory(venue=settings.venue), ClientIndices(), links.rest()
    views = {account.account_id: AccountView(account, directory) for account in settings.accounts}
    rests = {name: links.rest(wallet.tokens) for name, wallet in wallets.items()}
    market = MarketStream(directory, links, clock)
    private = {
        name: PrivateStream(view, wallets[name], links, indices, settings, clock, sleep=sleep)
        for name, view in views.items()
    }
    send = Sender(
        wallets,
        private,
        rests,
        timeout_s=settings.action_timeout_s,
        poll_s=settings.verdict_poll_s,
        clock=clock,
        on_unknown=links.shared.board.on_unknown_words,
        sleep=sleep,
    )
    reads = {
        name: AccountReads(view, rests[name], private[name].verdicts, private[name].slices, clock)
        for name, view in views.items()
    }
    orders = OrderActions(
        directory=directory,
        indices=indices,
        reads=reads,
        quotas={name: wallet.quota for name, wallet in wallets.items()},
        send=send,
        clock=clock,
        resting_days=settings.resting_days,
    )
    return Parts(
        links=links,
        rest=public,
        directory=directory,
        indices=indices,
        wallets=wallets,
        market=market,
        queries=MarketReads(directory, public, clock),
        private=private,
        reads=reads,
        send=send,
        orders=orders,
        actions=AccountActions(views=views, rests=rests, send=send, clock=clock),
        quotas=Quotas(settings.venue, links.shared.gate, private, wallets),
    )
