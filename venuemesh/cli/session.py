"""What a running command has at hand: the services, the printer, the person at the terminal. Light at import."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from venuemesh.cli.exits import Declined, UsageFault
from venuemesh.cli.wishes import Output, Wishes

if TYPE_CHECKING:
    from venuemesh.channels import MeshChannel
    from venuemesh.cli.link import Link
    from venuemesh.cli.printing import Printer
    from venuemesh.clock import Clock


class Session:
    """One command; channels it opened close with `stack`."""

    def __init__(self, wishes: Wishes, printer: Printer, clock: Clock, stack: AsyncExitStack) -> None:
        self.wishes = wishes
        self.out = printer
        self.clock = clock
        self._stack = stack

    @property
    def json(self) -> bool:
        """Whether the output is for a script."""
        return self.wishes.output is Output.JSON

    @cached_property
    def router(self) -> Link:
        """The router."""
        return self._link("router", self.wishes.router)

    @cached_property
    def aggregator(self) -> Link:
        """The aggregator."""
        return self._link("aggregator", self.wishes.aggregator)

    def _link(self, name: str, address: str) -> Link:
        from venuemesh.cli.link import Link

        channel = self._channel(name, address)
        self._stack.push_async_callback(channel.close)
        return Link(channel, name=name, address=address, timeout_s=self.wishes.timeout, clock=self.clock)

    def _channel(self, name: str, address: str) -> MeshChannel:
        from venuemesh.channels import open_channel
        from venuemesh.secrets import SecretError, read_secret
        from venuemesh.security.certificates import CertificateError, ChannelFiles
        from venuemesh.settings import is_loopback

        wishes = self.wishes
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise UsageFault(f"--{name}: must be host:port, not {address!r}")
        if (wishes.cert is None) != (wishes.cert_key is None):
            raise UsageFault("--cert and --cert-key: give both or neither")
        if wishes.ca is None and wishes.cert is not None:
            raise UsageFault("--cert: needs --ca, the authority to trust")
        if wishes.ca is None and wishes.token_file is not None and not is_loopback(host):
            raise UsageFault(f"--token-file: a token goes to {host} only over TLS; give --ca too")
        try:
            token = None if wishes.token_file is None else read_secret(wishes.token_file)
            files = None
            if wishes.ca is not None:
                files = ChannelFiles(ca_file=wishes.ca, cert_file=wishes.cert, key_file=wishes.cert_key)
            # A person's own call takes all the time it was given: nothing is kept back for a caller behind it.
            return open_channel(address, tls=files, token=token, reserve_s=0.0)
        except SecretError as error:
            raise UsageFault(f"--token-file: {error}") from None
        except CertificateError as error:
            raise UsageFault(str(error)) from None

    async def account(self, given: str | None) -> str:
        """The account meant: the one named, else the only one there is.

        Raises:
            UsageFault: there are several, or none.
        """
        if given:
            return given
        from venuemesh.errors import MeshError
        from venuemesh.v1 import account_service_pb2

        request = account_service_pb2.ListAccountsRequest()
        try:
            answer = await self.router.call(request, account_service_pb2.ListAccountsResponse)
        except MeshError:
            self.out.note("the accounts cannot be listed now: name yours with --account to go on without asking")
            raise
        names = sorted({account.account_id for account in answer.accounts})
        if len(names) == 1:
            return names[0]
        raise UsageFault(f"--account: name one of {', '.join(names)}" if names else "--account: the mesh has none")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask the person before an act that cannot be taken back.

        Raises:
            UsageFault: there is no terminal to ask at, and --yes was not given.
            Declined: the answer was no.
        """
        if yes:
            return
        if not self.out.can_ask:
            raise UsageFault(f"--yes: without a terminal nobody can be asked. {question}")
        if not self.out.ask(question):
            raise Declined
