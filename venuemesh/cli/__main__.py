"""`python -m venuemesh.cli`."""

from __future__ import annotations

from venuemesh.cli.app import main

if __name__ == "__main__":
    main()
