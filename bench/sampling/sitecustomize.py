"""Where a process spends its CPU, without a profiler: `--profile` puts this directory on the replicas' PYTHONPATH.

The kernel signals every 5 ms of CPU that the process uses, and the handler counts the functions of the main thread's stack: the
one at the top, and each that is anywhere on it. Only what runs under an event loop counts, so that a start's imports do not. At
the process's orderly end the counts go to BENCH_SAMPLES/PID.txt. Time in one long call into C is its caller's.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY = 0.005  # seconds of CPU
SHOWN = 80
LOOP = "BaseEventLoop._run_once"


class Samples:
    """Counts of functions."""

    def __init__(self) -> None:
        self.top, self.anywhere = Counter[str](), Counter[str]()

    def take(self, _number: int, frame: FrameType | None) -> None:
        """One sample, of the stack from `frame` up to the event loop."""
        stack: list[str] = []
        while frame is not None and frame.f_code.co_qualname != LOOP:
            stack.append(f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_code.co_qualname}")
            frame = frame.f_back
        if frame is not None:
            self.top[stack[0] if stack else LOOP] += 1
            self.anywhere.update(set(stack))

    def write(self, directory: str) -> None:
        """Both counts, in percent of the samples; none is taken any more."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # the interpreter's own end would put the deadly one back
        taken = sum(self.top.values())
        lines = [f"{' '.join(sys.argv)}: {taken} samples, one each {EVERY * 1000:g} ms of CPU"]
        for title, counts in (("at the top", self.top), ("anywhere on the stack", self.anywhere)):
            lines += ["", title, *(f"{100 * n / taken:6.1f} %  {name}" for name, n in counts.most_common(SHOWN))]
        Path(directory, f"{os.getpid()}.txt").write_text("\n".join(lines) + "\n")


if directory := os.environ.get("BENCH_SAMPLES"):
    samples = Samples()
    atexit.register(samples.write, directory)
    signal.signal(signal.SIGPROF, samples.take)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
