"""A term: one replica's leadership under one epoch, and what each phase of getting there cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from engine.clock import utcnow


@dataclass(slots=True)
class Phases:
    """Moments of a takeover (CLOCK_BOOTTIME seconds), from which the history row's milliseconds are made."""

    kind: str = "start"  # start, failover or switchover
    reason: str = ""
    from_name: str | None = None
    last_sign: float | None = None  # when the old leader was last known to be alive
    noticed: float = 0.0  # when this replica decided to campaign
    won: float = 0.0
    claimed: float = 0.0
    fence: float = 0.0  # seconds spent waiting for the old session's end (326)
    admitted: float = 0.0
    leading: float = 0.0
    repaired: int = 0
    held: int = 0

    @classmethod
    def of_campaign(cls, other: str | None, handed_over: str | None, last_sign: float, now: float) -> Phases:
        """Of a campaign that begins now: why, and after whom. `handed_over` is the reason from the old leader's own mouth."""
        if other is None:
            return cls("start", "no leader was there", noticed=now)
        if handed_over is not None:
            return cls("switchover", handed_over, other, noticed=now)
        return cls("failover", f"the lease of {other} ended", other, last_sign, now)

    def milliseconds(self) -> dict[str, float | int | None]:
        """The figures of the history row that are known once the replica leads."""
        detect = None if self.last_sign is None or self.kind == "start" else self.noticed - self.last_sign
        begin = self.noticed if detect is None else self.noticed - detect
        return {
            "detect_ms": _ms(detect), "acquire_ms": _ms(self.won - self.noticed), "claim_ms": _ms(self.claimed - self.won),
            "fence_ms": _ms(self.fence), "connect_ms": _ms(self.admitted - self.claimed - self.fence),
            "reconcile_ms": _ms(self.leading - self.admitted), "total_ms": _ms(self.leading - begin),
            "repaired": self.repaired, "held": self.held,
        }  # fmt: skip


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds) * 1000, 3)


@dataclass(slots=True)
class Term:
    """Leadership as a value: who, which epoch, and the phases of its takeover. The lease's trust is the lease's own."""

    holder: str
    epoch: int
    phases: Phases = field(default_factory=Phases)
    started_at: datetime = field(default_factory=utcnow)
    noted: bool = False  # whether the history row has its phases
    first_order_noted: bool = False
