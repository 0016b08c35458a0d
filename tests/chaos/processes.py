"""What a process has used, by the kernel's books."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds of a process and all its threads since it began, at a moment of the monotonic clock."""

    cpu: float
    at: float

    @classmethod
    def by(cls, pid: int) -> Used:
        """Raises FileNotFoundError when it has ended."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls((int(fields[11]) + int(fields[12])) / _TICKS, time.monotonic())

    def share_since(self, earlier: Used) -> float:
        """Of one core, in percent."""
        return 100 * (self.cpu - earlier.cpu) / (self.at - earlier.at)


def megabytes(pid: int) -> float:
    """What the process occupies (resident set), in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(f"process {pid} has no memory any more")
