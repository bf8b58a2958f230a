"""What a caller may do: scopes and the limits its token was narrowed to. Pure.

A grant only ever shrinks: `narrowed_by` intersects, so the order of limits does not matter and none can widen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final, TypeVar

from venuemesh.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from venuemesh.money import format_decimal, parse_decimal
from venuemesh.v1 import options_pb2

READ: Final = options_pb2.SCOPE_READ
TRADE: Final = options_pb2.SCOPE_TRADE
RISK: Final = options_pb2.SCOPE_RISK
OPERATE: Final = options_pb2.SCOPE_OPERATE
SCOPES: Final[Mapping[str, int]] = MappingProxyType({"read": READ, "trade": TRADE, "risk": RISK, "operate": OPERATE})
SCOPE_NAMES: Final[Mapping[int, str]] = MappingProxyType({number: name for name, number in SCOPES.items()})

Amount = TypeVar("Amount", int, Decimal)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_METHOD = re.compile(r"[A-Za-z]{1,64}/([A-Za-z]{1,64}|\*)", re.ASCII)
MAX_NAMES: Final = 64
"""Most accounts, venues or methods in one limit."""


class LimitError(ValueError):
    """A limit cannot be read; the text names it and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the caller may do; None means not limited.

    Attributes:
        subject: who the token was given to, for logs and audit.
        scopes: numbers of `venuemesh.v1.Scope`.
        methods: `Service/Method` or `Service/*`, without the package.
        expires_ns: wall clock; the grant is void from then on.
        max_notional: most quantity times price of one order, in quote currency.
    """

    subject: str
    scopes: frozenset[int]
    accounts: frozenset[str] | None = None
    venues: frozenset[str] | None = None
    methods: frozenset[str] | None = None
    expires_ns: int | None = None
    max_notional: Decimal | None = None

    @property
    def limited(self) -> bool:
        """Whether the contents of a request matter, not only its method."""
        return self.accounts is not None or self.venues is not None

    def narrowed_by(self, limit: str) -> Grant:
        """This grant within one more limit, `name=value`.

        Raises:
            LimitError: the limit is not one that this version knows, so nobody may assume what it meant.
        """
        name, found, value = limit.partition("=")
        read = _LIMITS.get(name)
        if not found or read is None:
            raise LimitError(f"{name[:32]!r} is no limit; there are {', '.join(_LIMITS)}")
        return read(self, value)

    def meet(self, other: Grant) -> Grant:
        """What both allow; the subject is the other's."""
        return Grant(
            subject=other.subject,
            scopes=self.scopes & other.scopes,
            accounts=_meet(self.accounts, other.accounts),
            venues=_meet(self.venues, other.venues),
            methods=_meet_methods(self.methods, other.methods),
            expires_ns=_least(self.expires_ns, other.expires_ns),
            max_notional=_least(self.max_notional, other.max_notional),
        )

    def require(self, method: str, scope: int, now_ns: int) -> None:
        """Admit one call of `/package.Service/Method`.

        Raises:
            AuthenticationFailed: expired. PermissionDenied: the scope or the method is not granted.
        """
        if self.expires_ns is not None and now_ns >= self.expires_ns:
            raise AuthenticationFailed("the token has expired", metadata={"expired": time_text(self.expires_ns)})
        if scope not in self.scopes:
            wanted = SCOPE_NAMES.get(scope, "none: the method declares no scope")
            raise PermissionDenied(
                f"{method} needs the scope {wanted}; the token grants {self.scope_text()}",
                metadata={"needed_scope": wanted, "granted_scopes": self.scope_text()},
            )
        if self.methods is not None and not _covers(self.methods, short_name(method)):
            raise PermissionDenied(f"the token is not for {short_name(method)}", metadata={"limit": "methods"})

    def scope_text(self) -> str:
        """Scopes as people write them, in a fixed order; "nothing" for none."""
        return ",".join(name for name, number in SCOPES.items() if number in self.scopes) or "nothing"

    def describe(self) -> dict[str, str]:
        """The grant for people, limits that are not set left out."""
        found = {"subject": self.subject, "scopes": self.scope_text()}
        for name, values in (("accounts", self.accounts), ("venues", self.venues), ("methods", self.methods)):
            if values is not None:
                found[name] = ",".join(sorted(values)) or "none"
        if self.expires_ns is not None:
            found["before"] = time_text(self.expires_ns)
        if self.max_notional is not None:
            found["max_notional"] = format_decimal(self.max_notional)
        return found


# --- limits as text ------------------------------------------------------------------------------------------


def time_text(time_ns: int) -> str:
    """RFC 3339 in whole seconds, UTC."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short_name(method: str) -> str:
    """`Service/Method` of `/package.Service/Method`."""
    service, _, name = method.removeprefix("/").rpartition("/")
    return f"{service.rpartition('.')[2]}/{name}"


def _scopes(grant: Grant, value: str) -> Grant:
    names = _names("scopes", value, None)
    unknown = names - set(SCOPES)
    if unknown:
        raise LimitError(f"scopes: {sorted(unknown)[0]!r} is none of {', '.join(SCOPES)}")
    return replace(grant, scopes=grant.scopes & {SCOPES[name] for name in names})


def _accounts(grant: Grant, value: str) -> Grant:
    return replace(grant, accounts=_meet(grant.accounts, _names("accounts", value, _NAME)))


def _venues(grant: Grant, value: str) -> Grant:
    return replace(grant, venues=_meet(grant.venues, _names("venues", value, _NAME)))


def _methods(grant: Grant, value: str) -> Grant:
    return replace(grant, methods=_meet_methods(grant.methods, _names("methods", value, _METHOD)))


def _before(grant: Grant, value: str) -> Grant:
    try:
        at = datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise LimitError(f"before: {value[:32]!r} is no time such as 2027-01-31T12:00:00Z") from None
    return replace(grant, expires_ns=_least(grant.expires_ns, int(at.timestamp()) * 1_000_000_000))


def _max_notional(grant: Grant, value: str) -> Grant:
    try:
        most = parse_decimal(value, field="max_notional")
    except InvalidRequest as error:
        raise LimitError(error.message) from None
    if most < 0:
        raise LimitError("max_notional: must not be negative")
    return replace(grant, max_notional=_least(grant.max_notional, most))


_LIMITS: Final = MappingProxyType(
    {
        "scopes": _scopes,
        "accounts": _accounts,
        "venues": _venues,
        "methods": _methods,
        "before": _before,
        "max_notional": _max_notional,
    }
)


def _names(limit: str, value: str, shape: re.Pattern[str] | None) -> frozenset[str]:
    names = value.split(",") if value else []
    if len(names) > MAX_NAMES:
        raise LimitError(f"{limit}: {len(names)} names, at most {MAX_NAMES}")
    for name in names:
        if shape is not None and not shape.fullmatch(name):
            raise LimitError(f"{limit}: {name[:32]!r} is no name")
    return frozenset(names)


def _meet(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _meet_methods(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    """As `_meet`, where `Service/*` covers every method of the service."""
    if one is None or other is None:
        return other if one is None else one
    return frozenset(name for name in one if _covers(other, name)) | frozenset(
        name for name in other if _covers(one, name)
    )


def _covers(methods: frozenset[str], name: str) -> bool:
    return name in methods or f"{name.partition('/')[0]}/*" in methods


def _least(one: Amount | None, other: Amount | None) -> Amount | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


# --- the grant of the call being served ----------------------------------------------------------------------

_current: ContextVar[Grant | None] = ContextVar("venuemesh_grant", default=None)


def set_current(grant: Grant | None) -> None:
    """The current task serves a call under this grant; None where calls are not authorized."""
    _current.set(grant)


def current() -> Grant | None:
    """The grant of the call being served; None outside one, or where calls are not authorized."""
    return _current.get()


def require_notional(notional: Callable[[], Decimal | None], *, field: str) -> None:
    """Refuse an order worth more than the caller's token allows.

    Args:
        notional: worth of the order in quote currency at the worst price it accepts; None when nothing bounds it.
        field: the field at fault.
    Raises:
        PermissionDenied: more than `max_notional`, or unbounded where there is one.
    """
    grant = _current.get()
    if grant is None or grant.max_notional is None:
        return
    worth = notional()
    if worth is not None and worth <= grant.max_notional:
        return
    shown = "unbounded" if worth is None else format_decimal(worth)
    raise PermissionDenied(
        f"{field}: the order may be worth {shown}; the token allows {format_decimal(grant.max_notional)}",
        metadata={"limit": "max_notional", "value": shown, "max": format_decimal(grant.max_notional)},
    )
