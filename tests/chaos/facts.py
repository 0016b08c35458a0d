"""What is recorded of a scenario, as values: the database's log, the answers on `/leader`, the faults, what was left at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ha.demo.findings import InDoubt
from ha.demo.history import History
from ha.demo.scene import Glimpse
from ha.demo.silence import Silence

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question at one replica's `/leader`. `status` None: no answer came, refused and timed out alike."""

    replica: str
    asked: datetime
    answered: datetime
    status: int | None

    @property
    def leads(self) -> bool:
        """Whether the replica said at some moment between `asked` and `answered` that it leads."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class Row:
    """One event of the database's log."""

    seq: int
    epoch: int
    kind: str
    order_id: str | None
    payload: Mapping[str, Any]
    at: datetime
    """When PostgreSQL wrote it."""
    said: datetime
    """When its writer says that it happened."""

    @property
    def licenses(self) -> bool:
        """Whether it entitles to write an order: R2."""
        return self.kind in ("order_accepted", "order_licensed") and self.payload.get("session") is not None


@dataclass(frozen=True, slots=True)
class Bite:
    """A fault that took effect. `replica` is the one that fell silent by it, None when none did."""

    fault: str
    at: datetime
    evidence: str
    replica: str | None = None
    ended: datetime | None = None
    """When it was over, for faults that last."""
    perm_ids: tuple[int, ...] = ()
    """The orders at the broker that it was about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that is looked at. `journal` and `log` are complete, `since` is the journal's last entry before."""

    history: History
    journal: Sequence[Entry]
    log: Sequence[Row]
    probes: Sequence[Probe]
    bites: Sequence[Bite]
    client_id: int
    since: int = 0
    intent_age: float = 8.0
    """Seconds after which an order that was never sent may expire."""
    in_doubt: Sequence[InDoubt] = ()
    """What the ledger doubts when all had healed."""
    leaders: Sequence[str] = ()
    """Who answered 200 on `/leader` when all had healed."""
    before: Sequence[Row] = ()
    """The database's log as it was before the first fault."""
    claims: Mapping[int, int] = field(default_factory=dict)
    """By epoch, the log's last event when it was claimed, as the claim itself wrote it while nobody else could write."""
    silences: Sequence[Silence] = ()
    """Around each fault that silenced a leader."""
    standing: Mapping[str, Glimpse | None] = field(default_factory=dict)
    """What each replica said of itself when all had healed, None = it did not answer; empty = nobody was asked."""
    budget: float = 40.0
    """Seconds within which the pair must be whole again after whatever happened."""
