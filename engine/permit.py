"""May I accept, may I send? Pure: facts come in, the answer goes out, time is an argument.

The permit is checked on the line above each write to the broker, with no await between (R2). It knows no lease: whoever leads
(the room `ha`) hands it an epoch, refreshes its proof, and takes it away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Licence:
    """What a commit of SENDING names: it entitles to one write, on one session, under one epoch (R2)."""

    epoch: int
    session: int
    broker_order_id: int


@dataclass(slots=True)
class Permit:
    """The present right to act. `proof_at` is CLOCK_BOOTTIME seconds at the *start* of the last commit that proved the epoch."""

    proof_max_age: float = 1.0
    epoch: int | None = None
    accepting: bool = False
    proof_at: float = float("-inf")
    session: int | None = None
    shut: dict[str, str] = field(default_factory=dict)  # reasons why the gate is shut: short name -> sentence
    halted: str | None = None

    def grant(self, epoch: int, proof_at: float) -> None:
        """A term begins: POSTs are accepted from the claim's commit on, nothing is sent yet."""
        self.epoch, self.proof_at, self.accepting, self.session = epoch, proof_at, True, None
        self.shut = {"reconciling": "The ledger and the broker are being reconciled."}

    def revoke(self) -> None:
        """Nothing may be accepted or sent from this line on."""
        self.epoch, self.session, self.accepting = None, None, False

    def prove(self, epoch: int, started: float) -> None:
        """A commit under `epoch`, begun at `started`, succeeded."""
        if epoch == self.epoch:
            self.proof_at = max(self.proof_at, started)

    def proof_age(self, now: float) -> float:
        """Seconds since the last proven commit began."""
        return now - self.proof_at

    def proven(self, now: float) -> bool:
        """R12: an epoch that was not proven for longer than `proof_max_age` counts as lost."""
        return self.epoch is not None and self.proof_age(now) <= self.proof_max_age

    def refuses_intent(self, now: float) -> tuple[str, str] | None:
        """Why an intent cannot be accepted now (short name, sentence), or None."""
        if self.epoch is None or not self.accepting:
            return "not-leader", "This replica holds no epoch."
        if not self.proven(now):
            return "unproven", f"The epoch was not proven for {self.proof_age(now):.1f} s; the database may be away."
        if "holding" in self.shut:
            return "held", self.shut["holding"]
        if self.halted is not None:
            return "halted", f"New orders are halted: {self.halted}"
        return None

    def gate_open(self, now: float) -> bool:
        """Whether an intent accepted now may carry its licence in the same commit."""
        return self.proven(now) and self.session is not None and not self.shut

    def obey(self, control: Mapping[str, Any]) -> None:
        """Take up operators' wishes as the database has them (R29)."""
        halted = control.get("halted")
        said = halted.get("reason") if isinstance(halted, Mapping) else None
        self.halted = None if halted is None else str(said or "by an operator")

    def gate_reasons(self, now: float) -> list[str]:
        """Sentences that say why the gate is shut; empty when it is open."""
        reasons = []
        if self.epoch is None:
            reasons.append("This replica does not lead.")
        elif not self.proven(now):
            reasons.append("The epoch is not proven.")
        if self.epoch is not None and self.session is None:
            reasons.append("There is no broker session.")
        return reasons + list(self.shut.values())

    def refuses_write(self, licence: Licence, now: float) -> str | None:
        """R2: why the bytes of this licence must not be written now, or None. Ask on the line above the write."""
        if licence.epoch != self.epoch:
            return f"the licence is of epoch {licence.epoch}, the present one is {self.epoch}"
        if licence.session != self.session:
            return f"the licence is for session {licence.session}, the present one is {self.session}"
        if not self.proven(now):
            return "the epoch is not proven"
        if self.shut:
            return " ".join(self.shut.values())
        return None
