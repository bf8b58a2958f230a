"""Generate the stubs of the contract into `gen`, as a project of its own would: `python generate.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parents[1] / "protos"


def main() -> int:
    target = HERE / "gen"
    target.mkdir(exist_ok=True)
    # Google's own protos come with grpcio-tools.
    folders = (f"-I{PROTOS}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}")
    files = [str(file) for file in sorted(PROTOS.glob("venuemesh/v1/*.proto"))]
    return int(protoc.main(["protoc", *folders, f"--python_out={target}", f"--grpc_python_out={target}", *files]))


if __name__ == "__main__":
    sys.exit(main())
