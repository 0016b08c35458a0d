"""What HAProxy's master CLI answers, read: workers, sessions, frontends; and which sessions are to end. Pure.

Written for HAProxy 2.6, from whose answers the samples in the tests were captured.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ha.fence import Holder, Who


class RelayError(Exception):
    """The relay could not be asked, or its answer is not what it should be; the text is a sentence without its stop."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process of HAProxy that has sessions. After a reload the old one stays while it has some."""

    pid: int
    old: bool


@dataclass(frozen=True, slots=True)
class RelaySession:
    """One connection through the relay. `id` is a pointer in its worker: valid until the session ends, then used again."""

    id: str
    frontend: str
    address: str
    age: str


_WORKER = re.compile(r"(\d+)\s+worker\s")
_SESSION = re.compile(r"(0x[0-9a-f]+): ")
_FIELDS = re.compile(r" src=(?P<address>\S+) fe=(?P<frontend>\S+) .*?\bage=(?P<age>\S+)")


def workers(answer: str) -> list[Worker]:
    """The workers in the answer to `show proc`, old ones too. Raises RelayError."""
    found: list[Worker] = []
    section = ""
    for line in answer.splitlines():
        if line.startswith("# "):
            section = line
        elif (match := _WORKER.match(line)) is not None:
            found.append(Worker(int(match[1]), old=section == "# old workers"))
    if not found:
        raise RelayError(
            f"`show proc` named no worker, so this is not the master's socket (haproxy -W -S …): {_quoted(answer)}"
        )
    return found


def sessions(answer: str) -> list[RelaySession]:
    """The connections in the answer to `show sess`. Raises RelayError when it is not one, or is cut short.

    The session that asked is always in the list (frontend GLOBAL), so that an empty answer is no answer.
    """
    lines = answer.splitlines()
    if not answer.endswith("\n\n") or not all(_SESSION.match(line) for line in lines[:-1]) or len(lines) < 2:
        raise RelayError(f"`show sess` was not answered as it should be: {_quoted(answer)}")
    found = []
    for line in lines[:-1]:
        if (match := _FIELDS.search(line)) is not None:
            found.append(RelaySession(line.partition(":")[0], match["frontend"], match["address"], match["age"]))
    return found


def frontends(answer: str) -> frozenset[str]:
    """The names in the answer to `show stat -1 1 -1`. Raises RelayError."""
    if not answer.startswith("# pxname,svname,"):
        raise RelayError(f"`show stat` was not answered as it should be: {_quoted(answer)}")
    rows = (line.split(",", 2) for line in answer.splitlines()[1:] if line)
    return frozenset(row[0] for row in rows if row[1] == "FRONTEND")


def has_no_worker(answer: str) -> bool:
    """The master knows no worker of that PID any more: it ended, and its sessions with it."""
    return answer.startswith("Can't find the target PID")


def ended(answer: str) -> bool:
    """Whether `shutdown session` was carried out, or met a session that had just ended. Raises RelayError."""
    text = answer.strip()
    if text in ("", "Done.") or text.startswith("No such session") or has_no_worker(text):
        return True
    raise RelayError(f"`shutdown session` was refused, the socket needs `level admin`: {_quoted(answer)}")


@dataclass(frozen=True, slots=True)
class Doors:
    """The frontends of the replicas: all whose name begins with `prefix`; ours is `prefix` and this replica's name."""

    prefix: str
    ours: str

    def holder(self, session: RelaySession, dialed: Collection[str]) -> Holder | None:
        """Whose session that is, None for one that did not come through a replica's door."""
        if not session.frontend.startswith(self.prefix):
            return None
        who = Who.OTHER
        if session.frontend == self.ours:
            who = Who.OURSELVES if session.address in dialed else Who.STRANGER
        return Holder(session.frontend, session.address, session.age, who)


def sort_out(
    found: Iterable[RelaySession],
    doors: Doors,
    *,
    open_now: Collection[str],
    dialed: Collection[str],
    strangers: bool,
) -> tuple[list[tuple[RelaySession, Holder]], list[Holder]]:
    """(sessions to end, strangers to leave) among what a worker has; see `FenceAgent.drop_old_session`."""
    ending: list[tuple[RelaySession, Holder]] = []
    left: list[Holder] = []
    for session in found:
        holder = doors.holder(session, dialed)
        if holder is None or (session.frontend == doors.ours and session.address in open_now):
            continue
        if holder.who is Who.STRANGER and not strangers:
            left.append(holder)
        else:
            ending.append((session, holder))
    return ending, left


def address_of(socket: str) -> str | tuple[str, int]:
    """`FENCE_HAPROXY_SOCKET`: a path (it has a slash), or HOST:PORT. Raises ValueError with a sentence."""
    if "/" in socket:
        return socket
    host, colon, port = socket.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"FENCE_HAPROXY_SOCKET={socket} is neither a path with a slash in it nor HOST:PORT.")
    return host, int(port)


def _quoted(answer: str) -> str:
    words = " ".join(answer.split())
    return repr(words[:200] + "…" if len(words) > 200 else words) if words else "no answer"
