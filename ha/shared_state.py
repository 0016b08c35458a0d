"""The two small things that the pair keeps in etcd beside the leader key: how far the ledger was, and its suspicions.

Both are memories, not decisions: whoever reads them treats what is missing or unreadable as not known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from loguru import logger

from engine.clock import utcnow
from ha.lease import LeaderRecord, LeasePort, StateSeen, Stored
from ha.suspicion import Budget, Entry

LEDGER = "ledger"
SUSPICIONS = "suspicions"


@dataclass(frozen=True, slots=True)
class Memory:
    """What etcd remembers of the ledger (R18)."""

    epoch: int = 0
    seq: int = 0
    digest: str = ""

    @classmethod
    def from_text(cls, text: str | None) -> Memory:
        """Read it; what is not ours is nothing."""
        try:
            fields = json.loads(text or "{}")
            return cls(int(fields["epoch"]), int(fields["seq"]), str(fields["digest"]))
        except (ValueError, TypeError, KeyError):
            return cls()

    def to_text(self) -> str:
        """JSON; `from_text` reads it back."""
        return json.dumps({"epoch": self.epoch, "seq": self.seq, "digest": self.digest})


async def recall(lease: LeasePort) -> Memory:
    """What etcd remembers: a database that went back must not bring an old epoch back (R18)."""
    stored = await lease.get_state(LEDGER)
    return Memory.from_text(stored.value) if isinstance(stored, StateSeen) else Memory()


async def remember(lease: LeasePort, memory: Memory) -> None:
    """Keep it, under the leader key: an old leader cannot overwrite a new one's."""
    await lease.put_state(LEDGER, memory.to_text())


async def spend_suspicion(lease: LeasePort, suspect: LeaderRecord, me: str) -> bool:
    """Take one suspicion out of the pair's budget (R30); False when it is spent, or etcd did not say."""
    stored = await lease.get_state(SUSPICIONS)
    if not isinstance(stored, StateSeen):
        return False
    budget = Budget.from_text(stored.value)
    if not budget.allows(utcnow()):
        logger.error("{} is silent, but the budget of suspicions is spent: waiting for its lease to end", suspect.name)
        return False
    spent = budget.spend(Entry(utcnow(), suspect.instance, suspect.name, me))
    written = await lease.put_state(SUSPICIONS, spent.to_text(), expect=stored.revision, fenced=False)
    return isinstance(written, Stored)


async def give_back_suspicion(lease: LeasePort, name: str, living_instance: str) -> None:
    """A process of that name lives: what was suspected of an earlier one was right, and costs nothing of the budget."""
    stored = await lease.get_state(SUSPICIONS)
    if not isinstance(stored, StateSeen) or not stored.value:
        return
    budget = Budget.from_text(stored.value)
    if (after := budget.give_back(name, living_instance)) != budget:
        await lease.put_state(SUSPICIONS, after.to_text(), expect=stored.revision, fenced=False)
