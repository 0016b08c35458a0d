"""Whole trees of processes: what a part has started belongs to it, as PostgreSQL's backends and the relay's workers do."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def tree(pids: Iterable[int]) -> list[int]:
    """These processes and all that they started, parents first."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):  # ended meanwhile
                children[int((entry / "stat").read_text().rpartition(")")[2].split()[1])].append(int(entry.name))
    found = list(pids)
    for pid in found:
        found += children[pid]
    return found


def signalled(pids: Iterable[int], number: signal.Signals) -> None:
    """Send it to each that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def awake(pids: Iterable[int]) -> list[int]:
    """Those that live and are not stopped."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZX":
                found.append(pid)
    return found
