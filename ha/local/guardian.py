"""The guardian: a process that outlives the launcher by a moment, and ends what a `kill -9` of the launcher leaves.

    python -I -S guardian.py TOKEN DIR   (stdin: a Unix socket to the launcher)

For each child the launcher sends one message, `{"pid", "signal"}`, together with the child's pidfd, so that a pid that
was given to another process in the meantime is never hit. `{"done": true}` = all is stopped, go. When the socket or the
launcher ends without that, the guardian sends every child its signal, after GRACE seconds SIGKILL, then to whatever
still carries the pair's token, and removes pair.json. It holds the lock on DIR until it is done, so that the next
launcher on DIR cannot meet leftovers.

The kernel's parent-death signal (shim.py) does the same for each child, sooner; the guardian is for what that cannot
reach: grandchildren, stopped processes, and children whose user changed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

TOKEN_NAME = "LOCAL_PAIR_TOKEN"  # begins like no setting of the adapter
GRACE = 3.0
KILL_WAIT = 5.0


def leftovers(token: str, home: Path) -> list[int]:
    """The pids of living processes that carry the pair's `token`, and of PostgreSQL's that work in a directory of `home`.

    PostgreSQL writes its titles over its environment, therefore it is known by program and directory. A process of
    another user cannot be read and is not ours.
    """
    wanted = f"{TOKEN_NAME}={token}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with suppress(OSError):
            environment = Path("/proc", entry, "environ").read_bytes()
            if wanted in environment.split(b"\0") or _is_postgres_in(entry, home):
                found.append(int(entry))
    return found


def _is_postgres_in(pid: str, home: Path) -> bool:
    program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    return os.path.basename(program) == "postgres" and os.path.dirname(os.readlink(f"/proc/{pid}/cwd")) == str(home)


def kill_leftovers(token: str, home: Path) -> int:
    """SIGKILL to all `leftovers`, until there are none or KILL_WAIT is over; returns how many were hit."""
    hit: set[int] = set()
    deadline = time.monotonic() + KILL_WAIT
    while (found := leftovers(token, home)) and time.monotonic() < deadline:
        hit.update(found)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return len(hit)


def wait_for_end(children: dict[int, int], seconds: float) -> None:
    """Drop from `children` (pidfd -> signal) those that have ended, until none is left or `seconds` are over."""
    poll = select.poll()
    for pidfd in children:
        poll.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while children and (left := deadline - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(left * 1000):
            poll.unregister(pidfd)
            os.close(pidfd)
            del children[pidfd]


def end(children: dict[int, int]) -> None:
    """Send every child its own signal, then SIGKILL to those that stay; returns when all have ended or time is up."""
    for pidfd, number in children.items():
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
    wait_for_end(children, GRACE)
    for pidfd in children:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    wait_for_end(children, KILL_WAIT)


def watch(launcher: socket.socket, launcher_pidfd: int, children: dict[int, int]) -> bool:
    """Take in messages until the launcher says that it is done (True) or is gone (False)."""
    poll = select.poll()
    poll.register(launcher, select.POLLIN)
    # The launcher's own pidfd: a process that it forked without exec may hold the socket open.
    poll.register(launcher_pidfd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if launcher.fileno() in ready:
            data, fds, _, _ = socket.recv_fds(launcher, 4096, 1)
            if not data:
                return False
            message = json.loads(data)
            if message.get("done"):
                return True
            children[fds[0]] = message["signal"]
        elif launcher_pidfd in ready:
            return False
        wait_for_end(children, 0.001)  # forget those that have ended, their pidfds with them


def main(token: str, directory: str, parent: int) -> None:
    """Guard until the launcher is done or gone; exit code 0."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C is the launcher's business
    children: dict[int, int] = {}
    with socket.socket(fileno=0) as launcher:
        try:
            parent_pidfd = os.pidfd_open(parent)
            done = os.getppid() == parent and watch(launcher, parent_pidfd, children)
        except (ProcessLookupError, ConnectionError):
            done = False
        if done:
            return
        end(children)
        kill_leftovers(token, Path(directory, "postgres"))
        Path(directory, "pair.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
