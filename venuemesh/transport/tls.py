"""TLS contexts of the process's outgoing connections."""

from __future__ import annotations

import functools
import ssl

import httpx


@functools.cache
def client_context() -> ssl.SSLContext:
    """Verifying context, loaded once: `SSL_CERT_FILE` or `SSL_CERT_DIR` when set, else the bundled roots."""
    return httpx.create_ssl_context()


def empty_context() -> ssl.SSLContext:
    """Context that trusts nobody, for clients that only ever speak plain text to loopback."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
