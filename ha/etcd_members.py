"""Which member of etcd to talk to, whom to leave, and what a failed call proves. Pure: time is an argument.

One client per endpoint: gRPC's own choice among several addresses sticks to a frozen member for 90 s and more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

FIRST_PAUSE = 0.05


class Verdict(Enum):
    """What a failed call means for the next one."""

    LEAVE = "leave"  # nothing is proved; ask another member
    TOKEN = "token"  # nothing is proved; authenticate anew, then ask again
    REFUSED = "refused"  # nothing is proved, and no member will answer otherwise: a matter of configuration
    NO_LEASE = "no lease"  # proved: the lease that the call named does not exist
    EXISTS = "exists"  # proved: the lease that was to be made exists


class EtcdError(Exception):
    """A call that was not answered as asked. `verdict` says what that proves."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason


_NEW_TOKEN = ("invalid auth token", "revision of auth store is old", "user name is empty")


def judge(code: str, details: str) -> Verdict:
    """What a gRPC status proves. `code` is the name of the status. Whatever is not listed proves nothing."""
    text = details.lower()
    if code == "UNAUTHENTICATED" or (code == "INVALID_ARGUMENT" and any(sign in text for sign in _NEW_TOKEN)):
        return Verdict.TOKEN
    if code == "NOT_FOUND" and "lease" in text:
        return Verdict.NO_LEASE
    if code == "FAILED_PRECONDITION" and "lease already exists" in text:
        return Verdict.EXISTS
    if code in ("PERMISSION_DENIED", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED"):
        return Verdict.REFUSED
    return Verdict.LEAVE  # UNAVAILABLE, DEADLINE_EXCEEDED, UNKNOWN, INTERNAL, CANCELLED, RESOURCE_EXHAUSTED, ...


@dataclass(slots=True)
class Rotation:
    """The member in use, and how long to wait before the next attempt when all of them failed."""

    endpoints: tuple[str, ...]
    longest_pause: float
    index: int = 0
    failures: int = 0

    @property
    def current(self) -> str:
        """The endpoint to use."""
        return self.endpoints[self.index]

    def leave(self) -> None:
        """The current member failed: the next one is on."""
        self.index = (self.index + 1) % len(self.endpoints)
        self.failures += 1

    def failed_here(self) -> None:
        """The current member refused us, and is asked again."""
        self.failures += 1

    def answered(self) -> None:
        """The current member answered."""
        self.failures = 0

    def pause(self) -> float:
        """Seconds to wait before the next attempt: none within a round over all members, and after each round that
        nobody answered twice as long as after the one before, up to `longest_pause`."""
        rounds, rest = divmod(self.failures, len(self.endpoints))
        if rounds == 0 or rest:
            return 0.0
        return min(FIRST_PAUSE * 2.0 ** min(rounds - 1, 16), self.longest_pause)


@dataclass(slots=True)
class TermGuard:
    """Notices a member whose raft term lies behind what was seen already: frozen, cut off, or restored.

    A term never goes back in one history. When a majority of the endpoints agree on a lower one, the history itself
    is another (etcd was wiped or restored), and that one counts from then on.
    """

    endpoints: int
    cluster_id: str = ""
    term: int = 0
    behind: dict[str, int] = field(default_factory=dict)

    def stale(self, endpoint: str, cluster_id: str, term: int) -> bool:
        """Take note of an answer's header; True when the answer must not be used and the member be left."""
        if cluster_id == self.cluster_id and term >= self.term:
            self.term = term
            self.behind.clear()
            return False
        if not self.cluster_id:
            self.cluster_id, self.term = cluster_id, term
            return False
        self.behind[endpoint] = term
        if len(self.behind) * 2 <= self.endpoints:
            return True
        self.cluster_id, self.term = cluster_id, term
        self.behind.clear()
        return False
