"""Commit a plan: one fenced group, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.commit import Outcome
from engine.events import Draft, Event
from reconcile.plan import Plan

COMMIT_DEADLINE = 2.0
"""Seconds after which a commit's answer counts as unknown here; the committer itself goes on until it knows (R20)."""


class Commits(Protocol):
    """What reconciliation needs of `engine.commit.Committer`."""

    closed: bool

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
