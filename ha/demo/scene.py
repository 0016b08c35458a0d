"""What a spectator of the demonstration knows at this moment, and what has just changed. Pure; fed by `watch.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ha.demo.broker_record import Taken, read_taken
from ha.demo.history import History, Outcome, fold_one
from ha.demo.silence import Kill, Silence, measure

QUIET = 0.3  # seconds without an order at the broker that are worth showing while traffic flows


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What one replica said of itself. `seq` and `digest` are those of its book."""

    role: str
    state: str
    epoch: int
    gate_open: bool
    reasons: tuple[str, ...]
    """Why the gate is shut."""
    complaints: tuple[str, ...]
    """Why it does not call itself healthy."""
    healthy: bool
    seq: int | None
    digest: str | None

    @classmethod
    def read(cls, status: int, body: Mapping[str, Any]) -> Glimpse:
        """From an answer of `GET /health`; fields that it lacks read as nothing."""
        gate = body.get("gate") or {}
        tail = body.get("tail") or {}
        return cls(
            role=str(body.get("role", "?")),
            state=str(body.get("state", "?")),
            epoch=int(body.get("epoch") or 0),
            gate_open=bool(gate.get("open")),
            reasons=tuple(str(reason) for reason in gate.get("reasons") or ()),
            complaints=tuple(str(reason) for reason in body.get("reasons") or ()),
            healthy=status in {200, 429},
            seq=tail.get("seq"),
            digest=tail.get("digest"),
        )

    @property
    def leads(self) -> bool:
        """True for a leader that lets orders out."""
        return self.state == "LEADING" and self.gate_open


@dataclass(slots=True)
class Scene:
    """Everything that the view shows. `events` are sentences with their time, not yet shown. While
    `flowing` orders should reach the broker; once `closed` the parts are being ended, which is no event."""

    names: Sequence[str]
    glimpses: dict[str, Glimpse | None] = field(default_factory=dict)
    history: History = field(default_factory=History)
    taken: list[Taken] = field(default_factory=list)
    executions: int = 0
    kills: list[Kill] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    flowing: bool = False
    closed: bool = False
    events: deque[tuple[datetime, str]] = field(default_factory=lambda: deque(maxlen=1000))
    _answered: set[str] = field(default_factory=set)

    def tell(self, now: datetime, sentence: str) -> None:
        """Adds an event."""
        self.events.append((now, sentence))

    def see(self, now: datetime, name: str, glimpse: Glimpse | None) -> None:
        """Takes in what a replica says of itself (None: it does not answer), and tells of a change."""
        before = self.glimpses.get(name)
        self.glimpses[name] = glimpse
        if _shown(before) != _shown(glimpse) and (before is not None or glimpse is not None):
            self.tell(now, f"{name}: {_shown(before)} → {_shown(glimpse)}")

    def read_journal(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Takes in the broker's next entries."""
        for entry in entries:
            if entry["kind"] == "order":
                taken = read_taken(entry)
                if taken.reference is not None:
                    self.taken.append(taken)
            elif entry["kind"] == "execution":
                self.executions += 1

    def read_history(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Takes in the clients' next entries."""
        for entry in entries:
            fold_one(self.history, entry)
            if entry.get("op") == "place" and entry["kind"] == "ok":
                self._answered.add(str(entry["client_order_id"]))

    def killed(self, kill: Kill, sentence: str) -> None:
        """Marks a kill; its silence runs from here."""
        self.kills.append(kill)
        self.tell(kill.at, sentence)

    def settle_silences(self, now: datetime) -> None:
        """Tells of every silence that has ended since the last look."""
        for kill in self.kills[len(self.silences) :]:
            silence = measure(kill, self.taken, self.history.accepted)
            if silence.broker_ms is None or silence.accepted_ms is None:
                return
            self.silences.append(silence)
            self.tell(
                now,
                f"orders reach the broker again: silence {silence.broker_ms:.0f} ms at the broker, "
                f"{silence.accepted_ms:.0f} ms without an order accepted",
            )

    @property
    def watched(self) -> bool:
        """Whether there is a running pair to look at."""
        return bool(self.glimpses) and not self.closed

    @property
    def answered(self) -> int:
        """Orders answered 2xx."""
        return len(self._answered)

    @property
    def asked(self) -> int:
        """Orders asked for."""
        return len(self.history.orders)

    def waiting(self) -> int:
        """Orders whose clients have no answer yet, of whatever kind."""
        return self.history.count(Outcome.UNKNOWN) + self.history.count(Outcome.NOT_ACCEPTED)

    def quiet_for(self, now: datetime) -> float | None:
        """Seconds since the broker took the last order; None while no traffic flows, or before the first order."""
        if not self.flowing or not self.taken:
            return None
        return max(0.0, (now - self.taken[-1].at).total_seconds())

    def leader(self) -> str | None:
        """The replica that leads with its gate open; None when nobody or more than one says so."""
        leading = [name for name, glimpse in self.glimpses.items() if glimpse is not None and glimpse.leads]
        return leading[0] if len(leading) == 1 else None

    def paired(self) -> str | None:
        """The leader, while the other replica is a healthy standby; else None."""
        leader = self.leader()
        others = [self.glimpses.get(name) for name in self.names if name != leader]
        ready = all(other is not None and other.state == "STANDBY" and other.healthy for other in others)
        return leader if leader is not None and ready else None

    def disagreement(self) -> str | None:
        """Why leader and standby are not yet at rest with equal books; None when they are."""
        if self.paired() is None:
            return "no leader with a healthy standby: " + ", ".join(
                f"{name} {_shown(glimpse)}{_ailing(glimpse)}"
                for name, glimpse in ((name, self.glimpses.get(name)) for name in self.names)
            )
        seen = [glimpse for glimpse in (self.glimpses.get(name) for name in self.names) if glimpse is not None]
        if len({glimpse.seq for glimpse in seen}) > 1:
            return "the standby has not read as far as the leader has written"
        if len({glimpse.digest for glimpse in seen}) > 1:
            return "the standby's book differs from the leader's at the same sequence number"
        return None


def _ailing(glimpse: Glimpse | None) -> str:
    if glimpse is None or glimpse.healthy:
        return ""
    return f" and not healthy ({'; '.join(glimpse.complaints) or 'no reason given'})"


def _shown(glimpse: Glimpse | None) -> str:
    if glimpse is None:
        return "no answer"
    if glimpse.state != "LEADING":
        return glimpse.state
    return f"LEADING (epoch {glimpse.epoch})" if glimpse.gate_open else f"LEADING, gate shut (epoch {glimpse.epoch})"
