"""Secrets and accounts of the `local` overlay, made anew at each call and kept nowhere in this tree.

A trial cluster trades with simulated venues, so its keys are worth nothing; they are made here all the same, because a
manifest in the repository must hold none.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from deploy.local.mesh import (
    LIGHTER,
    LIGHTER_TIER,
    VENUES,
    Accounts,
    at_the_gateway,
    at_the_simulator,
    key_file,
    make_accounts,
)
from deploy.local.state import StateFolder
from venuemesh.security.__main__ import add_key, mint_from
from venuemesh.security.local_certificates import DEFAULT_VALIDITY, LocalAuthority

KEYS_FOLDER = "/etc/venuemesh/venue-keys"
METRICS_NAME = "venuemesh-metrics"
NATS_SERVERS = 3
SERVICES = ("router", "aggregator", *(row.gateway for row in VENUES))
CLIENTS = ("operator", "metrics_reader")

Object = dict[str, Any]


def objects(namespace: str, folder: Path, now: datetime, also: Sequence[str] = ()) -> list[Object]:
    """Everything the overlay refers to and does not hold.

    Args:
        namespace: of the overlay.
        folder: scratch space for files with keys, the caller's to remove.
        also: further names or addresses that every certificate covers.
    """
    accounts = make_accounts(StateFolder(folder / "state"))
    made = [*_certificates(namespace, now, also), *_tokens(folder / "token.keys")]
    made += [_page_token(), _simulator_accounts(accounts)]
    for row in VENUES:
        made += _gateway(row.gateway, accounts, row.venue)
    for each in made:
        each["metadata"]["namespace"] = namespace
    return made


def hosts(service: str, namespace: str) -> list[str]:
    """Names that a service's certificate must cover; those of `components/certificates`."""
    name = kubernetes_name(service)
    match service:
        case "nats":
            return [name, *(f"{name}-{number}.{name}" for number in range(NATS_SERVERS))]
        case "router" | "aggregator":
            return [name, METRICS_NAME, f"{name}.{namespace}.svc"]
        case _ if service in SERVICES:
            return [name, METRICS_NAME]
    return []


def kubernetes_name(service: str) -> str:
    """Objects' names have dashes where packages have underscores."""
    return service.replace("_", "-")


def _certificates(namespace: str, now: datetime, also: Sequence[str]) -> list[Object]:
    authority = LocalAuthority.create(now)
    ca = authority.certificate.public_bytes(serialization.Encoding.PEM)
    made = []
    for service in (*SERVICES, "nats", *CLIENTS):
        certificate, key = authority.issue(service, [*hosts(service, namespace), *also], now, DEFAULT_VALIDITY)
        files = {"ca.crt": ca, "tls.crt": certificate, "tls.key": key}
        made.append(_secret(f"{kubernetes_name(service)}-tls", files, kind="kubernetes.io/tls"))
    return made


def _tokens(keys_file: Path) -> list[Object]:
    add_key(keys_file, "trial")
    token = mint_from(keys_file, "trial", ["scopes=read,trade,risk,operate"])
    return [
        _secret("token-keys", {"token.keys": keys_file.read_bytes()}),
        _secret("client-token", {"token": token.reveal().encode()}),
    ]


def _page_token() -> Object:
    return _secret("router-page-token", {"key": secrets.token_urlsafe(32).encode()})


def _simulator_accounts(accounts: Accounts) -> Object:
    tables: dict[str, dict[str, object]] = {}
    for row in VENUES:
        for key, entries in at_the_simulator(row, accounts[row.venue]).items():
            tables.setdefault(key, {}).update(entries)
    return _config_map("simulator-accounts", {key: json.dumps(entries) for key, entries in tables.items()})


def _gateway(service: str, accounts: Accounts, venue: str) -> list[Object]:
    account = accounts[venue]
    file = key_file(account)
    entry = at_the_gateway(account, f"{KEYS_FOLDER}/{file.name}")
    tier = f'tier = "{LIGHTER_TIER}"\n' if venue == LIGHTER else ""
    name = kubernetes_name(service)
    return [
        _config_map(f"{name}-accounts", {"accounts.toml": f"{tier}accounts = [{_inline(entry)}]\n"}),
        _secret(f"{name}-keys", {file.name: file.read_bytes()}),
    ]


def _inline(value: object) -> str:
    """A value as TOML; strings and numbers are written as JSON writes them."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(each)}" for key, each in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


def _secret(name: str, files: Mapping[str, bytes], kind: str = "Opaque") -> Object:
    data = {key: base64.b64encode(content).decode() for key, content in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": data}


def _config_map(name: str, data: Mapping[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}
