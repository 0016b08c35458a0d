"""Suspicion: when a standby may take the key from a leader whose lease still stands (R30). Pure.

Safety does not rest on it: a false suspicion costs one needless failover, never an order, because whoever takes the key still has
to claim the epoch and to be admitted by the gateway. So it may be aggressive, but it must not flap: it needs silence on the
heartbeat *and* in the proof rows, this replica must be in touch with etcd and PostgreSQL itself, and a budget is shared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.clock import from_iso, iso

BUDGET = 3
WINDOW = timedelta(minutes=10)


@dataclass(slots=True)
class Silence:
    """When the leader last gave a sign, seen from here (CLOCK_BOOTTIME seconds).

    A new leader starts fresh: its first moment counts as a sign on both ways. Losing etcd or PostgreSQL on this side delays a
    suspicion; it does not restart the count.
    """

    after: float = 1.5
    who: tuple[int, str] | None = None  # lease id and instance of the leader that is watched
    heartbeat_at: float = 0.0
    proof_at: float = 0.0
    blink: float = 0.5
    asked_at: float = float("-inf")

    def watch(self, lease_id: int, instance: str, now: float) -> None:
        """The leader key shows this leader."""
        if self.who != (lease_id, instance):
            self.who, self.heartbeat_at, self.proof_at = (lease_id, instance), now, now

    def unwatch(self) -> None:
        """There is no leader, or it is this replica."""
        self.who = None

    def heartbeat(self, instance: str, now: float) -> None:
        """The watched leader spoke on the direct connection."""
        if self.who is not None and self.who[1] == instance:
            self.heartbeat_at = now

    def proof(self, seen_at: float) -> None:
        """A fresh proof of epoch was read at `seen_at`."""
        self.proof_at = max(self.proof_at, seen_at)

    def last_sign(self) -> float:
        """The later of the two signs."""
        return max(self.heartbeat_at, self.proof_at)

    def due_in(self, now: float) -> float | None:
        """Seconds until the leader can be silent for long enough, if it gives no further sign; None without a leader."""
        return None if self.who is None else self.last_sign() + self.after - now

    def suspects(self, now: float, *, database_seen_at: float, fresh: float = 1.0) -> bool:
        """Whether the leader has been silent on both ways for long enough, while this replica was there to hear it.

        `database_seen_at` is when this replica last read the proof rows; whether it is in touch with etcd is asked of etcd,
        before anything is done. Ask this at least every `blink` seconds: a replica that was frozen itself has heard nothing and
        must not take that for silence, so a longer pause between two questions starts the count anew.
        """
        paused, self.asked_at = now - self.asked_at > self.blink, now
        if paused:
            self.heartbeat_at = self.proof_at = now
        in_touch = now - database_seen_at <= fresh
        return self.who is not None and in_touch and now - self.last_sign() >= self.after


@dataclass(frozen=True, slots=True)
class Entry:
    """One suspicion that was acted upon: of which process, by whom."""

    at: datetime
    suspect: str  # instance
    suspect_name: str
    by: str


@dataclass(frozen=True, slots=True)
class Budget:
    """The pair's suspicions, kept in etcd: at most three in ten minutes; one is given back when its suspect proves dead."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def from_text(cls, text: str | None) -> Budget:
        """Read it. What cannot be read counts as a full budget: unknown is not permission."""
        if not text:
            return cls()
        try:
            rows = json.loads(text)
            entries = tuple(Entry(_moment(r["at"]), str(r["suspect"]), str(r["name"]), str(r["by"])) for r in rows)
        except (ValueError, TypeError, KeyError):
            never = datetime.max.replace(tzinfo=UTC)
            return cls(tuple(Entry(never, "unreadable", "", "") for _ in range(BUDGET)))
        return cls(entries)

    def to_text(self) -> str:
        """JSON; `from_text` reads it back."""
        rows = [{"at": iso(e.at), "suspect": e.suspect, "name": e.suspect_name, "by": e.by} for e in self.entries]
        return json.dumps(rows)

    def allows(self, now: datetime) -> bool:
        """Whether one more may be acted upon."""
        return len(self._recent(now)) < BUDGET

    def spend(self, entry: Entry) -> Budget:
        """With one more; what is too old falls out."""
        return Budget((*self._recent(entry.at), entry))

    def give_back(self, name: str, living_instance: str) -> Budget:
        """A process called `name` lives as `living_instance`: suspects of that name with another instance were dead."""
        return Budget(tuple(e for e in self.entries if not (e.suspect_name == name and e.suspect != living_instance)))

    def _recent(self, now: datetime) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if now - e.at < WINDOW)


def _moment(text: str) -> datetime:
    moment = from_iso(text)
    if moment is None:
        raise ValueError("no time")
    return moment
