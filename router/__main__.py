"""`python -m router`."""

from __future__ import annotations

import sys

from router.server import run
from venuemesh.serving import run_service

if __name__ == "__main__":
    sys.exit(run_service(run))
