"""Turns what a caller shows, a token or a certificate, into what it may do."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from venuemesh.clock import Clock
from venuemesh.errors import AuthenticationFailed
from venuemesh.secrets import Secret, SecretError, read_secret
from venuemesh.security.files import FileWatch
from venuemesh.security.grants import Grant
from venuemesh.security.tokens import TokenError, read_keys, verify

log = logging.getLogger(__name__)

TRUST_DOMAIN = "spiffe://venuemesh/"
"""A service's certificate names it by a URI of this form: `spiffe://venuemesh/router`."""

MAX_REMEMBERED = 1_000


class KeyFileError(Exception):
    """The key file cannot be used; the text names the file and the rule."""


class Authority:
    """Who callers are.

    Args:
        keys_file: keys that tokens are sealed with, see `tokens.read_keys`; read again when it changes, so that a new
            key can be added beside the old one without a restart.
        peers: scopes of services by the name in their certificates.
    Raises:
        KeyFileError: the file cannot be read or holds no key.
    """

    def __init__(self, keys_file: Path | None, peers: Mapping[str, frozenset[int]], clock: Clock) -> None:
        self._peers = {name: Grant(subject=name, scopes=scopes) for name, scopes in peers.items()}
        self._keys_file = keys_file
        self._watch = FileWatch((keys_file,) if keys_file else (), clock)
        self._keys: dict[str, Secret] = {} if keys_file is None else _read(keys_file)
        # Verified tokens, so that a busy caller's is not verified anew for every call; bounded, oldest out.
        self._known: OrderedDict[str, Grant] = OrderedDict()

    def identify(self, authorization: str | None, certificate_names: Iterable[str] = ()) -> Grant:
        """What a caller may do; with both a certificate of a service and a token, what both allow.

        Args:
            authorization: the metadata value, `Bearer <token>`.
            certificate_names: names in the verified certificate of the connection.
        Raises:
            AuthenticationFailed: neither is shown, or what is shown is not valid.
        """
        self._reload()
        peer = next((self._peers[name] for each in certificate_names if (name := _service(each)) in self._peers), None)
        if authorization is None:
            if peer is None:
                raise AuthenticationFailed("a bearer token is needed")
            return peer
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AuthenticationFailed("the authorization must be `Bearer <token>`")
        grant = self._grant(token)
        return grant if peer is None else peer.meet(grant)

    def _grant(self, token: str) -> Grant:
        grant = self._known.get(token)
        if grant is not None:
            self._known.move_to_end(token)
            return grant
        grant = verify(token, self._keys)
        self._known[token] = grant
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return grant

    def _reload(self) -> None:
        if self._keys_file is None or not self._watch.changed():
            return
        try:
            self._keys = _read(self._keys_file)
        except KeyFileError as error:
            log.warning("token_keys_unreadable", extra={"detail": str(error), "policy": "the old keys stay"})
            return
        self._known.clear()
        log.info("token_keys_read", extra={"keys": sorted(self._keys)})


def _service(name: str) -> str:
    return name.removeprefix(TRUST_DOMAIN) if name.startswith(TRUST_DOMAIN) else ""


def _read(path: Path) -> dict[str, Secret]:
    try:
        return read_keys(read_secret(path).reveal())
    except SecretError as error:
        raise KeyFileError(str(error)) from None
    except TokenError as error:
        raise KeyFileError(f"key file {path}: {error}") from None
