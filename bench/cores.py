"""What each process of a pair took of the machine's cores, by the kernel's books."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_NAMES = (("postgres", "database"), ("etcd", "etcd"), ("ibsim", "gateway"))


def used(named: dict[int, str]) -> Counter[str]:
    """CPU seconds so far of this process (`client`) and of all that it started, by what they are. `named`: those with a name."""
    parents, seconds, commands = dict[int, int](), dict[int, float](), dict[int, str]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        pid = int(entry.name)
        parents[pid], commands[pid] = int(fields[1]), command
        seconds[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    found: Counter[str] = Counter()
    for pid, took in seconds.items():
        if _descends(pid, os.getpid(), parents):
            name = "client" if pid == os.getpid() else named.get(pid) or _name(commands[pid])
            found[name] += took
    return found


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid and pid != ancestor:
        pid = parents.get(pid, 0)
    return pid == ancestor


def _name(command: str) -> str:
    return next((name for part, name in _NAMES if part in command), "other")


def per_order(before: Counter[str], after: Counter[str], orders: int) -> dict[str, float]:
    """Milliseconds of CPU for each order, the greatest first. What is below a hundredth is left out."""
    took = {name: round(1000 * (after[name] - before[name]) / max(1, orders), 3) for name in after}
    return {name: ms for name, ms in sorted(took.items(), key=lambda item: -item[1]) if ms >= 0.01}
