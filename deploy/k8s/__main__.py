"""`python -m deploy.k8s [NAMESPACE] | kubectl apply -f -`: secrets and accounts of the `local` overlay."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from deploy.k8s.trial import objects

NAMESPACE = "venuemesh-local"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one list of objects; it holds private keys."""
    parser = argparse.ArgumentParser(prog="python -m deploy.k8s", description=__doc__)
    parser.add_argument("namespace", nargs="?", default=NAMESPACE)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="venuemesh-trial-") as folder:
        items = objects(options.namespace, Path(folder), datetime.now(UTC))
    json.dump({"apiVersion": "v1", "kind": "List", "items": items}, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
