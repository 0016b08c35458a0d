"""Commit a plan: one fenced group, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loguru import logger

from engine.commit import Outcome
from engine.events import Draft, Event
from reconcile.plan import Plan, Ruling

COMMIT_DEADLINE = 2.0
"""Seconds after which a commit's answer counts as unknown here; the committer itself goes on until it knows (R20)."""


class Commits(Protocol):
    """What reconciliation needs of `engine.commit.Committer`."""

    closed: bool
    epoch: int

    async def commit(self, drafts: Sequence[Draft]) -> tuple[Outcome, Sequence[Event], str]:
        """Commit one group, or say why not."""
        ...


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """How the group ended. REFUSED: nothing was written. `fenced`: the term is over. `why` is a sentence unless committed."""

    outcome: Outcome
    why: str
    events: Sequence[Event]
    fenced: bool = False


async def apply(committer: Commits, plan: Plan) -> ApplyResult:
    """Commit the plan's drafts."""
    return await commit(committer, plan.drafts)


async def apply_each(committer: Commits, plan: Plan) -> tuple[ApplyResult, tuple[Ruling, ...]]:
    """Commit each ruling alone, after the whole was refused: one that does not fold takes no other with it (R24).

    Returns how it ended (committed when anything was) and the rulings that could not be written.
    """
    events: list[Event] = []
    refused: list[Ruling] = []
    why = ""
    for ruling in plan.in_order:
        one = await commit(committer, ruling.drafts)
        if one.fenced or one.outcome is Outcome.UNKNOWN:
            return one, ()
        if one.outcome is Outcome.REFUSED:
            logger.error("what the row {} asks for cannot be written: {}", ruling, one.why)
            refused.append(ruling)
            why = one.why
        events += one.events
    outcome = Outcome.COMMITTED if events or not refused else Outcome.REFUSED
    return ApplyResult(outcome, why, tuple(events)), tuple(refused)


async def barrier(committer: Commits) -> ApplyResult:
    """Return when everything that was submitted before is committed and folded; the epoch is proven by it."""
    return await commit(committer, ())


async def commit(committer: Commits, drafts: Sequence[Draft]) -> ApplyResult:
    """One group through the committer, within COMMIT_DEADLINE."""
    try:
        async with asyncio.timeout(COMMIT_DEADLINE):
            outcome, events, why = await committer.commit(drafts)
    except TimeoutError:
        return ApplyResult(Outcome.UNKNOWN, f"no answer to the commit within {COMMIT_DEADLINE:g} s", ())
    return ApplyResult(outcome, why, events, fenced=outcome is Outcome.REFUSED and committer.closed)
