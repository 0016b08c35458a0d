"""What somebody who asked for a commit is told: the order, a refusal that wrote nothing, or that the outcome is unknown."""

from __future__ import annotations

import asyncio

from engine.commit import Committer, Outcome
from engine.errors import Problem, unavailable, unknown_outcome
from engine.order import Order

COMMIT_DEADLINE = 2.0
"""Seconds a client waits for the commit's answer before it gets 504."""

Waiting = asyncio.Future[Order | Problem]


async def answer_of(waiting: Waiting) -> Order:
    """The order, once its commit is known. Raises the Problem that it ended in, or 504 when it is not known in time."""
    await asyncio.wait((waiting,), timeout=COMMIT_DEADLINE)  # who stops waiting takes it from nobody else
    if not waiting.done():
        raise unknown_outcome("The commit's answer did not come in time; retry with the same key, it is safe.")
    answer = waiting.result()
    if isinstance(answer, Problem):
        raise answer
    return answer


async def proves(committer: Committer) -> bool:
    """Whether a fenced commit that begins now succeeds in time."""
    try:
        outcome, _, _ = await asyncio.wait_for(committer.commit(()), COMMIT_DEADLINE)
    except TimeoutError:
        return False
    return outcome is Outcome.COMMITTED


def result_of(order: Order | None, outcome: Outcome, why: str) -> Order | Problem:
    """What to tell of a commit that ended so; `order` as the book has it after a commit that succeeded."""
    if outcome is Outcome.COMMITTED and order is not None:
        return order
    if outcome is Outcome.REFUSED:
        return unavailable("not-written", f"Nothing was written: {why}.")
    return unknown_outcome(f"The commit's answer was lost: {why}; retry with the same key, it is safe.")
