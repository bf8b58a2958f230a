"""`python -m venuemesh.security`: keys, tokens and local certificates.

    keys add FILE ID                      put a new key in front of a key file: it mints from now on
    token mint FILE SUBJECT LIMIT...      print a token; limits such as `scopes=read,trade`, `accounts=main`
    token narrow TOKEN_FILE LIMIT...      print a narrower token; needs no key
    token show TOKEN_FILE                 what a token says it allows; its seal is not checked
    certs FOLDER SERVICE...               a root and certificates for this machine

A token goes to standard output, or with `--out FILE` to a file that only its owner can read.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from venuemesh.secrets import Secret, SecretError, read_secret
from venuemesh.security.authority import KeyFileError
from venuemesh.security.grants import LimitError
from venuemesh.security.local_certificates import replace_file, write_certificates
from venuemesh.security.tokens import TokenError, grant_of, mint, narrow, parse, read_keys

KEY_BYTES = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 with the reason on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (TokenError, LimitError, SecretError, KeyFileError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def add_key(path: Path, key_id: str) -> None:
    """Put a new random key in front of a key file, which is made when there is none; the old keys go on verifying."""
    old = read_secret(path).reveal() + "\n" if path.exists() else ""
    text = f"{key_id} {secrets.token_urlsafe(KEY_BYTES)}\n{old}"
    read_keys(text)
    replace_file(path, text.encode(), mode=0o600)


def mint_from(path: Path, subject: str, limits: Sequence[str]) -> Secret:
    """A token of the first key of a file."""
    key_id, key = next(iter(read_keys(read_secret(path).reveal()).items()))
    return mint(key_id, key, subject, limits)


def _keys_add(options: argparse.Namespace) -> None:
    add_key(options.file, options.id)


def _token_mint(options: argparse.Namespace) -> None:
    _give(mint_from(options.file, options.subject, options.limits), options.out)


def _token_narrow(options: argparse.Namespace) -> None:
    _give(narrow(read_secret(options.token_file), options.limits), options.out)


def _token_show(options: argparse.Namespace) -> None:
    for name, value in grant_of(parse(read_secret(options.token_file).reveal())).describe().items():
        sys.stdout.write(f"{name}={value}\n")


def _certs(options: argparse.Namespace) -> None:
    write_certificates(options.folder, options.services, options.host, datetime.now(UTC), timedelta(days=options.days))


def _give(token: Secret, out: Path | None) -> None:
    """To standard output, or to a file that only its owner can read."""
    if out is None:
        sys.stdout.write(f"{token.reveal()}\n")
    else:
        replace_file(out, f"{token.reveal()}\n".encode(), mode=0o600)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m venuemesh.security", description="Keys, tokens, certificates.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    keys = commands.add_parser("keys", help="key files").add_subparsers(required=True, metavar="COMMAND")
    add = keys.add_parser("add", help="put a new key in front")
    add.add_argument("file", type=Path)
    add.add_argument("id")
    add.set_defaults(run=_keys_add)
    tokens = commands.add_parser("token", help="bearer tokens").add_subparsers(required=True, metavar="COMMAND")
    minting = tokens.add_parser("mint", help="print a new token")
    minting.add_argument("file", type=Path, help="key file")
    minting.add_argument("subject")
    minting.add_argument("limits", nargs="+", metavar="LIMIT")
    minting.add_argument("--out", type=Path, help="a file for it, readable by its owner alone")
    minting.set_defaults(run=_token_mint)
    narrowing = tokens.add_parser("narrow", help="print a narrower token")
    narrowing.add_argument("token_file", type=Path)
    narrowing.add_argument("limits", nargs="+", metavar="LIMIT")
    narrowing.add_argument("--out", type=Path, help="a file for it, readable by its owner alone")
    narrowing.set_defaults(run=_token_narrow)
    show = tokens.add_parser("show", help="what a token says it allows")
    show.add_argument("token_file", type=Path)
    show.set_defaults(run=_token_show)
    certs = commands.add_parser("certs", help="certificates for this machine")
    certs.add_argument("folder", type=Path)
    certs.add_argument("services", nargs="+", metavar="SERVICE")
    certs.add_argument("--host", action="append", default=["localhost", "127.0.0.1"])
    certs.add_argument("--days", type=int, default=30)
    certs.set_defaults(run=_certs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
