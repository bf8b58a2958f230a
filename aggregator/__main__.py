"""`python -m aggregator`."""

from __future__ import annotations

import sys

from aggregator.server import run
from venuemesh.serving import run_service

if __name__ == "__main__":
    sys.exit(run_service(run))
