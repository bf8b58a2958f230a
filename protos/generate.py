"""Generate the Python contract from the protos into `venuemesh/v1`, or check that it is current.

python protos/generate.py           write
python protos/generate.py --check   exit 1 and name each file that differs
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("venuemesh") / "v1"
HEADER = '"""Generated from protos/ by `make proto`; never edited by hand."""\n'


def generate(target: Path) -> None:
    """Write all generated modules below `target`/venuemesh/v1, without empty service stubs."""
    sources = sorted((PROTOS / PACKAGE).glob("*.proto"))
    target.mkdir(parents=True, exist_ok=True)
    plugins = Path(sys.executable).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    command += [f"--{kind}_out={target}" for kind in ("python", "grpc_python")]
    command += [f"--{kind}_out=quiet:{target}" for kind in ("mypy", "mypy_grpc")]
    path = f"{plugins}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(  # noqa: S603 - fixed command on our own files
        command + [str(source) for source in sources], check=True, env={**os.environ, "PATH": path}
    )
    for source in sources:
        if not source.stem.endswith("_service"):
            for stub in (target / PACKAGE).glob(f"{source.stem}_pb2_grpc.py*"):
                stub.unlink()
    (target / PACKAGE / "__init__.py").write_text(HEADER)


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of generated files that are missing, surplus or different."""

    def names(folder: Path) -> set[str]:
        return {file.name for file in folder.iterdir() if file.suffix in {".py", ".pyi"}}

    shared = names(fresh) & names(committed)
    _, changed, unreadable = filecmp.cmpfiles(fresh, committed, sorted(shared), shallow=False)
    return sorted((names(fresh) ^ names(committed)) | set(changed) | set(unreadable))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, committed = Path(scratch) / PACKAGE, ROOT / PACKAGE
        if not check:
            shutil.rmtree(committed, ignore_errors=True)
            shutil.copytree(fresh, committed)
            return 0
        stale = differences(fresh, committed)
    for name in stale:
        print(f"stale: {PACKAGE / name}; run `make proto`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
