"""What every venue link needs, whatever the venue: sockets, requests, limits, back-off, measurements.

Pure (no I/O, no clock of their own): `backoff`, `environment`, `limiter`, `link`, `observer`, `retry_after`,
`session`. I/O: `gate` (waits for the limiter), `rest` (HTTP/1.1), `tls`, `websocket` (reconnecting socket).
Import from the modules: this package re-exports nothing, so a pure module never loads an I/O library.
"""
