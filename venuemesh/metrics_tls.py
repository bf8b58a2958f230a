"""The metrics endpoint over mutual TLS, from files that may be replaced while the process runs."""

from __future__ import annotations

import logging
import ssl
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from venuemesh.clock import SystemClock
from venuemesh.security.certificates import CertificateError, ServerFiles
from venuemesh.security.files import FileWatch

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
"""Handshake included, so that a silent peer holds its thread no longer."""


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def handle(self) -> None:
        try:
            super().handle()
        except OSError as error:  # a refused handshake or a peer that left; ssl.SSLError is one
            log.info("metrics_connection_failed", extra={"detail": str(error)})

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is not worth a line."""


class TlsMetricsServer(ThreadingMixIn, WSGIServer):
    """Every accepted connection shakes hands under the files as they are then, in a thread of its own."""

    daemon_threads = True
    files: ServerFiles
    _watch: FileWatch
    _context: ssl.SSLContext

    @classmethod
    def bind(cls, host: str, port: int, registry: CollectorRegistry, files: ServerFiles) -> TlsMetricsServer:
        """A bound server, not yet serving.

        Raises:
            OSError: the address is taken or not ours. CertificateError: a file cannot be used.
        """
        watch = FileWatch(files.paths, SystemClock(), check_s=0.0)
        context = _context(files)
        server = make_server(host, port, make_wsgi_app(registry), cls, _Handler)
        server.files, server._watch, server._context = files, watch, context
        return server

    def get_request(self) -> tuple[Any, Any]:
        """Accept; the handshake waits for the handler's thread."""
        connection, address = super().get_request()
        if self._watch.changed():
            try:
                self._context = _context(self.files)
            except CertificateError as error:
                log.warning("certificate_unusable", extra={"detail": str(error), "policy": "the old one stays"})
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


def _context(files: ServerFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.cert_file, files.key_file)
        context.load_verify_locations(files.client_ca_file)
    except (OSError, ssl.SSLError, ValueError, TypeError) as error:
        names = ", ".join(map(str, files.paths))
        raise CertificateError(f"TLS files {names}: cannot be used ({type(error).__name__})") from None
    return context
