"""One child process: spawned through the shim, watched by its pidfd, waited for by its parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.clock import boottime

_SHIM = str(Path(__file__).with_name("shim.py"))
_PR_SET_CHILD_SUBREAPER = 36
PYTHON = (sys.executable, "-I", "-S")  # for the launcher's own small programs: no site, quick to start


# Children that some code here waits for itself, until it has: not to be taken for orphans.
waited_for: set[int] = set()


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a child of a root launcher becomes."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class Spec:
    """How to start one child. What it writes is appended to `log`; `feeds` and `answers` make stdin and stdout pipes."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    death_signal: signal.Signals = signal.SIGKILL  # what it gets when the launcher is gone
    account: Account | None = None
    feeds: bool = False
    answers: bool = False


class Child:
    """A running child. Made by `spawn`; `code` is None while it lives, then as in `subprocess` (-9 = killed by 9)."""

    def __init__(self, spec: Spec, process: subprocess.Popen[bytes], log_start: int) -> None:
        self.spec, self.name, self.pid = spec, spec.name, process.pid
        self.started, self.lived = boottime(), 0.0
        self.code: int | None = None
        self.log_start = log_start
        self.pidfd = os.pidfd_open(process.pid)
        self._process = process
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def stdin(self) -> IO[bytes]:
        """Its standard input; only where the spec feeds it."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Its standard output; only where the spec says that it answers."""
        assert self._process.stdout is not None
        return self._process.stdout

    def send(self, number: int) -> None:
        """Send a signal; nothing happens to a child that has ended."""
        with suppress(ProcessLookupError):
            if self.code is None:
                signal.pidfd_send_signal(self.pidfd, number)

    async def wait(self) -> int:
        """Its exit code, once it has ended. Cancelling the wait leaves the child alone."""
        return await asyncio.shield(self._end)

    async def stop(self, *steps: tuple[signal.Signals, float]) -> int:
        """Send each step's signal and give it that many seconds; SIGKILL at last. Returns the exit code."""
        for number, seconds in steps:
            self.send(number)
            self.send(signal.SIGCONT)  # a stopped process cannot obey
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await self.wait()
        self.send(signal.SIGKILL)
        return await self.wait()

    def how_it_ended(self) -> str:
        """In words: "killed by SIGKILL", "exit code 2"."""
        if self.code is None:
            return "still running"
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"

    def last_lines(self, count: int = 8) -> str:
        """The end of what it has written to its log since it was started; empty if it wrote nothing."""
        try:
            with self.spec.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self.log_start, size - 8192))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-count:])

    def _reap(self, on_end: Callable[[Child], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pidfd)
        self.code = self._process.wait()
        waited_for.discard(self.pid)
        self.lived = boottime() - self.started
        os.close(self.pidfd)
        if not self._end.done():
            self._end.set_result(self.code)
        on_end(self)


def spawn(spec: Spec, on_end: Callable[[Child], None] = lambda _: None) -> Child:
    """Start a child of this thread; `on_end` is called in the loop's turn that sees its end. Raises OSError.

    The thread must be one that stays: the kernel sends the death signal when the thread that spawned it ends. A program
    that cannot be executed shows as exit code 126 with the reason in the log.
    """
    account = "-" if spec.account is None else f"{spec.account.uid}:{spec.account.gid}"
    argv = [*PYTHON, _SHIM, str(os.getpid()), str(int(spec.death_signal)), account, *spec.argv]
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    spec.cwd.mkdir(parents=True, exist_ok=True)
    with spec.log.open("ab") as log:
        start = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if spec.feeds else subprocess.DEVNULL,
            stdout=subprocess.PIPE if spec.answers else log,
            stderr=log,
            cwd=spec.cwd,
            env=dict(spec.env),
            bufsize=0,
            start_new_session=True,  # a Ctrl-C in the terminal is for the launcher, which ends them in order
        )
    waited_for.add(process.pid)
    child = Child(spec, process, start)
    asyncio.get_running_loop().add_reader(child.pidfd, child._reap, on_end)
    return child


async def run(spec: Spec, text: str = "", seconds: float = 60.0) -> Child:
    """Run a program to its end, with `text` as its standard input where the spec feeds it.

    Returns the ended child, whatever its exit code; raises TimeoutError after `seconds`, with the child killed.
    """
    child = spawn(spec)
    try:
        async with asyncio.timeout(seconds):
            if spec.feeds:
                with suppress(BrokenPipeError):  # it ended early: its exit code tells
                    child.stdin.write(text.encode())  # shorter than a pipe's buffer
                    child.stdin.close()
            await child.wait()
    finally:
        if child.code is None:
            await child.stop()
    return child


def become_subreaper() -> None:
    """Orphans of this process's children become its own children, not PID 1's. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def reap_orphans() -> int:
    """Wait for dead orphans that this process has inherited; returns how many.

    Left alone are the children in `waited_for`, and those that share this process's session: some other code of this
    process started them and waits for them.
    """
    count, me, session = 0, os.getpid(), os.getsid(0)
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in waited_for:
            continue
        with suppress(OSError):  # ended meanwhile
            # after the command in parentheses: state, parent, process group, session
            field = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if field[0] == "Z" and int(field[1]) == me and int(field[3]) != session:
                os.waitpid(int(entry), os.WNOHANG)
                count += 1
    return count
