"""The Python example of the README does what it says, against a server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.integration.local.fake_mesh import Fault, serving

ROOT = Path(__file__).resolve().parents[3]
BOUND_S = 30.0


async def test_python_example_when_pasted_twice_places_one_order() -> None:
    """The first run acknowledges, the second replays."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    said = []
    async with serving(Fault.NONE) as address, asyncio.timeout(BOUND_S):
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", code.replace("127.0.0.1:50050", address)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            output, _ = await process.communicate()
            assert process.returncode == 0
            said.append(output.decode().strip())
    assert said == [
        "SUBMIT_OUTCOME_ACKNOWLEDGED id-0 replayed=False",
        "SUBMIT_OUTCOME_ACKNOWLEDGED id-0 replayed=True",
    ]
