"""The launcher's side of the guardian: one directory, one launcher, and nothing left when the launcher is killed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ha.local.guardian import TOKEN_NAME
from ha.local.process import PYTHON, Child, waited_for

_SCRIPT = str(Path(__file__).with_name("guardian.py"))
_LEFTOVERS_WAIT = 15.0  # seconds; above the sum of the guardian's own limits
_REPLACE_AFTER = 1.0
_DISMISS_WAIT = 5.0


class DirectoryInUse(Exception):
    """Another launcher works on this directory; the message names its pid."""


class Lock:
    """An exclusive lock on a directory, by flock on DIR/lock; the file holds the launcher's pid."""

    def __init__(self, directory: Path) -> None:
        """Takes nothing yet."""
        self._path = directory / "lock"
        self.fd = -1

    async def acquire(self) -> None:
        """Take the lock. Raises DirectoryInUse if a living launcher has it.

        Where its launcher is dead, its guardian is still clearing up: then this waits for it, a bounded time.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _LEFTOVERS_WAIT
        while not _try_lock(fd):
            owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
            if not owner.isdigit() or _alive(int(owner)) or time.monotonic() > deadline:
                os.close(fd)
                raise DirectoryInUse(f"{self._path.parent} is in use by another launcher (pid {owner or 'unknown'})")
            await asyncio.sleep(0.05)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self.fd = fd

    @property
    def held(self) -> bool:
        """Whether this launcher has the lock."""
        return self.fd >= 0

    def release(self) -> None:
        """Give the lock up; once is enough."""
        if self.held:
            os.close(self.fd)
            self.fd = -1


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: int) -> bool:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


class Guard:
    """A running guardian. It cares for all that `children` returns; one that dies is replaced."""

    def __init__(self, directory: Path, lock: Lock, children: Callable[[], Iterable[Child]]) -> None:
        """Starts nothing. The guardian will hold `lock` too, which must be taken by then."""
        self.token = secrets.token_hex(16)
        self._directory, self._lock, self._children = directory, lock, children
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The guardian's pid while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def mark(self) -> dict[str, str]:
        """The environment variable that every child must carry, so that its own children can be found."""
        return {TOKEN_NAME: self.token}

    def start(self) -> None:
        """Start a guardian and give it all living children; raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: value for name, value in os.environ.items() if name != TOKEN_NAME}
        with theirs, (self._directory / "log" / "guardian.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*PYTHON, _SCRIPT, self.token, str(self._directory), str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                start_new_session=True,
                pass_fds=(self._lock.fd,),
            )
        waited_for.add(self._process.pid)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._lost)  # it never writes: readable = ended
        for child in self._children():
            self.add(child)

    def add(self, child: Child) -> None:
        """Give `child` into the guardian's care."""
        message = json.dumps({"pid": child.pid, "signal": int(child.spec.death_signal)}).encode()
        # A broken channel is a guardian that has just died: its successor is given every living child.
        with suppress(BrokenPipeError, ConnectionResetError):
            if self._channel is not None and child.code is None:
                socket.send_fds(self._channel, [message], [child.pidfd])

    def _lost(self) -> None:
        self._close()
        if self._process is not None:
            self._process.wait()
            waited_for.discard(self._process.pid)
        # Not at once: one that cannot live would be started without end.
        asyncio.get_running_loop().call_later(_REPLACE_AFTER, self._replace)

    def _replace(self) -> None:
        if self._process is not None and self._channel is None:
            self.start()

    def _close(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None

    async def dismiss(self) -> None:
        """Tell the guardian that nothing is left to guard, and wait for its end."""
        process, self._process = self._process, None
        with suppress(BrokenPipeError, ConnectionResetError):  # it is gone already
            if self._channel is not None:
                self._channel.send(json.dumps({"done": True}).encode())
        self._close()
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, _DISMISS_WAIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            waited_for.discard(process.pid)
