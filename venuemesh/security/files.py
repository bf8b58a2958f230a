"""Files that are replaced while the process runs: mounted secrets and certificates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from venuemesh.clock import Clock

CHECK_S = 1.0
"""At most one look at the disk in this time, however many calls ask."""


class FileWatch:
    """Whether any of some files was replaced or rewritten since the last time it was asked.

    A mounted Kubernetes secret changes by a new target of a symbolic link, which changes the inode.
    """

    def __init__(self, paths: Sequence[Path], clock: Clock, *, check_s: float | None = None) -> None:
        self._paths = tuple(paths)
        self._clock = clock
        self._check_s = CHECK_S if check_s is None else check_s
        self._looked_s = clock.monotonic_s()
        self._seen = self._look()

    def changed(self) -> bool:
        """Look at most once in `check_s`; a file that is gone for a moment is no change yet."""
        now_s = self._clock.monotonic_s()
        if not self._paths or now_s - self._looked_s < self._check_s:
            return False
        self._looked_s = now_s
        seen = self._look()
        if seen is None or seen == self._seen:
            return False
        self._seen = seen
        return True

    def _look(self) -> tuple[tuple[int, int, int], ...] | None:
        try:
            stats = [path.stat() for path in self._paths]
        except OSError:
            return None
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
