"""Which accounts and venues a request names, held against the limits of a grant. Pure.

Read off the contract's descriptors, once per request type: a field named `account_id` or `account_ids` names accounts,
one named `venue` or `venues` names venues, wherever it stands. A limited caller must name what it means: an empty
field means "all" to most methods, and all is more than the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from venuemesh.errors import PermissionDenied
from venuemesh.security.grants import Grant, short_name

PUBLIC_SERVICES = frozenset({"InstrumentService", "MarketDataService", "VenueService"})
"""What these tell is the same for everybody, so no account is needed to ask."""

_ACCOUNT_FIELDS = frozenset({"account_id", "account_ids"})
_VENUE_FIELDS = frozenset({"venue", "venues"})
_MAX_DEPTH = 6

Path = tuple[FieldDescriptor, ...]


@dataclass(frozen=True, slots=True)
class RequestRules:
    """Where requests of one method name accounts and venues; empty where they never do."""

    method: str
    accounts: tuple[Path, ...]
    venues: tuple[Path, ...]
    public: bool

    def require(self, grant: Grant, request: Message, own_venue: str) -> None:
        """Admit a request of a limited caller.

        Args:
            own_venue: what an empty venue means to this service; "" where it means all.
        Raises:
            PermissionDenied: an account or venue outside the limits, or none named.
        """
        if grant.accounts is not None and not (self.public and not self.accounts):
            self._require("account", grant.accounts, self.accounts, request, "")
        if grant.venues is not None and not (self.public and not self.venues):
            self._require("venue", grant.venues, self.venues, request, own_venue)

    def _require(
        self, kind: str, allowed: frozenset[str], paths: tuple[Path, ...], request: Message, empty_means: str
    ) -> None:
        named = [value or empty_means for path in paths for value in _values(request, path)]
        shown = ", ".join(sorted(allowed)) or "none"
        if not named and not (paths and empty_means):
            raise PermissionDenied(
                f"{self.method} names no {kind}, and the token is limited to {shown}",
                metadata={"limit": f"{kind}s", "allowed": shown},
            )
        for value in named or [empty_means]:
            if value not in allowed:
                what = f"the {kind} {value}" if value else f"no {kind} (which means all)"
                raise PermissionDenied(
                    f"{self.method} names {what}; the token is limited to {shown}",
                    field=".".join(field.name for field in paths[0]),
                    metadata={"limit": f"{kind}s", "value": value[:64], "allowed": shown},
                )


def rules_of(method: str, request: Descriptor) -> RequestRules:
    """The rules of `/package.Service/Method` with this request type."""
    name = short_name(method)
    return RequestRules(
        method=name,
        accounts=tuple(_paths(request, _ACCOUNT_FIELDS)),
        venues=tuple(_paths(request, _VENUE_FIELDS)),
        public=name.partition("/")[0] in PUBLIC_SERVICES,
    )


def _paths(message: Descriptor, names: frozenset[str], above: Path = ()) -> Iterator[Path]:
    if len(above) > _MAX_DEPTH:
        return
    for field in message.fields:
        if field.name in names and field.type == FieldDescriptor.TYPE_STRING:
            yield (*above, field)
        elif field.message_type is not None and field.message_type.file.package == message.file.package:
            yield from _paths(field.message_type, names, (*above, field))


def _values(message: Any, path: Path) -> Iterator[str]:
    """Every value at a path; a message that is not set names nothing, a field that is empty names ""."""
    field, rest = path[0], path[1:]
    if rest:
        if field.is_repeated:
            for element in getattr(message, field.name):
                yield from _values(element, rest)
        elif message.HasField(field.name):
            yield from _values(getattr(message, field.name), rest)
    elif field.is_repeated:
        yield from getattr(message, field.name)
    else:
        yield getattr(message, field.name)
