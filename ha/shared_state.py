"""The two small things that the pair keeps in etcd beside the leader key: how far the ledger was, and its suspicions.

Both are memories, not decisions: whoever reads them treats what is missing or unreadable as not known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import Enum

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


async def recall(lease: LeasePort) -> Memory | None:
    """What etcd remembers: a database that went back must not bring an old epoch back (R18). None when etcd did not say."""
    stored = await lease.get_state(LEDGER)
    return Memory.from_text(stored.value) if isinstance(stored, StateSeen) else None


async def foretell(lease: LeasePort, seen: int) -> Memory | None:
    """Keep the epoch that is claimed next: one above `seen` and above what etcd remembers.

    Returns what it remembers, with the higher of those two as its epoch; None when the next one is not certainly kept.
    """
    memory = await recall(lease)
    if memory is None:
        return None
    before = replace(memory, epoch=max(memory.epoch, seen))
    return before if await remember(lease, replace(before, epoch=before.epoch + 1)) else None


async def remember(lease: LeasePort, memory: Memory) -> bool:
    """Keep it, under the leader key: an old leader cannot overwrite a new one's. Whether it is certainly kept."""
    return isinstance(await lease.put_state(LEDGER, memory.to_text()), Stored)


class Spending(Enum):
    """What came of asking for one suspicion."""

    TAKEN = "it is taken"
    NOTHING_LEFT = "the budget is spent"
    NOT_SAID = "etcd did not say, or somebody wrote in between"


async def spend_suspicion(lease: LeasePort, suspect: LeaderRecord, me: str) -> Spending:
    """Take one suspicion out of the pair's budget (R30)."""
    stored = await lease.get_state(SUSPICIONS)
    if not isinstance(stored, StateSeen):
        return Spending.NOT_SAID
    budget = Budget.from_text(stored.value)
    if not budget.allows(utcnow()):
        logger.error("{} is silent, but the budget of suspicions is spent: waiting for its lease to end", suspect.name)
        return Spending.NOTHING_LEFT
    spent = budget.spend(Entry(utcnow(), suspect.instance, suspect.name, me))
    written = await lease.put_state(SUSPICIONS, spent.to_text(), expect=stored.revision, fenced=False)
    return Spending.TAKEN if isinstance(written, Stored) else Spending.NOT_SAID


async def give_back_suspicion(lease: LeasePort, name: str, living_instance: str) -> None:
    """A process of that name lives: what was suspected of an earlier one was right, and costs nothing of the budget."""
    stored = await lease.get_state(SUSPICIONS)
    if not isinstance(stored, StateSeen) or not stored.value:
        return
    budget = Budget.from_text(stored.value)
    if (after := budget.give_back(name, living_instance)) != budget:
        await lease.put_state(SUSPICIONS, after.to_text(), expect=stored.revision, fenced=False)
