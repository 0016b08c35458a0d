"""Where a process spends its CPU, without a profiler: `--profile` puts this directory on the replicas' PYTHONPATH.

The kernel signals every 5 ms of CPU that the process uses, and the handler looks at the main thread's stack: which part of the work
it is, which function is at the top, and which are anywhere on it. Only what runs under an event loop counts, so that a start's
imports do not. At the process's orderly end the counts go to BENCH_SAMPLES/PID.txt. Time in one long call into C is its caller's.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

EVERY = 0.005  # seconds of CPU
SHOWN = 80
LOOP = "BaseEventLoop._run_once"

PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("trial: events folded on copies before their commit", ("engine/trial.py",)),
    ("projection: the tables that people query", ("engine/projection.py",)),
    ("the order to the gateway: encoded and written", ("engine/broker_ib.py:IbBroker.place",)),
    ("statements to PostgreSQL", ("engine/store.py", "engine/exchange.py", "psycopg/")),
    ("metrics", ("engine/metrics.py",)),
    ("digest", ("engine/digest.py",)),
    ("fold: events into the book, and who is told of them", ("engine/book.py:Book.apply", "engine/fold.py")),
    ("what the gateway said, judged", ("engine/inbound.py",)),
    ("what the gateway said, decoded", ("ib_async/", "engine/feed.py", "engine/broker_ib.py", "engine/ib_f")),
    ("the request: JSON and validation", ("engine/request.py", "pydantic/", "engine/http.py:Request.json")),
    ("checks, contract, licence, intent", (
        "engine/submit.py:Desk._submit_new", "engine/accept.py", "engine/risk.py", "engine/contracts.py", "engine/licences.py",
        "engine/reference.py", "engine/intent.py",
    )),
    ("group commit: places, rows, JSON", ("engine/commit.py",)),
    ("the desk: waiting, licences carried out", ("engine/submit.py", "engine/answers.py", "engine/repeat.py")),
    ("the answer: order as JSON", ("engine/views.py", "engine/http.py:_send")),
    ("probes and the pair's own talk", ("ha/health.py", "ha/link.py", "ha/peers.py", "ha/watch.py", "ha/paths.py")),
    ("HTTP", ("engine/http.py", "engine/api.py", "engine/auth.py", "engine/door.py", "aiohttp/")),
    ("all else of ours: lease, proof, ticks", ("ha/", "reconcile/", "engine/")),
)  # fmt: skip
"""A sample is the first of these of which a function is anywhere on its stack; "FILE:" with the beginning of a function's name."""
REST = "the event loop itself"


class Samples:
    """Counts of parts and of functions."""

    def __init__(self) -> None:
        self.parts, self.top, self.anywhere = Counter[str](), Counter[str](), Counter[str]()
        self._names: dict[
            CodeType, tuple[str, int]
        ] = {}  # looked up once: what is sampled must not pay for being sampled

    def take(self, _number: int, frame: FrameType | None) -> None:
        """One sample, of the stack from `frame` up to the event loop."""
        stack: list[str] = []
        part = len(PARTS)
        while frame is not None and frame.f_code.co_qualname != LOOP:
            name, of = self._names.get(frame.f_code) or self._name(frame.f_code)
            stack.append(name)
            part = min(part, of)
            frame = frame.f_back
        if frame is not None:
            self.parts[PARTS[part][0] if part < len(PARTS) else REST] += 1
            self.top[stack[0] if stack else LOOP] += 1
            self.anywhere.update(set(stack))

    def _name(self, code: CodeType) -> tuple[str, int]:
        name = f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_qualname}"
        where = (number for number, (_, names) in enumerate(PARTS) if name.startswith(names))
        self._names[code] = found = name, next(where, len(PARTS))
        return found

    def write(self, directory: str) -> None:
        """All counts, in percent of the samples; none is taken any more."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # the interpreter's own end would put the deadly one back
        taken = sum(self.top.values())
        lines = [f"{' '.join(sys.argv)}: {taken} samples, one each {EVERY * 1000:g} ms of CPU"]
        for title, counts in (
            ("by part", self.parts), ("at the top", self.top), ("anywhere on the stack", self.anywhere),
        ):  # fmt: skip
            lines += ["", title, *(f"{100 * n / taken:6.1f} %  {name}" for name, n in counts.most_common(SHOWN))]
        Path(directory, f"{os.getpid()}.txt").write_text("\n".join(lines) + "\n")


if directory := os.environ.get("BENCH_SAMPLES"):
    samples = Samples()
    atexit.register(samples.write, directory)
    signal.signal(signal.SIGPROF, samples.take)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
