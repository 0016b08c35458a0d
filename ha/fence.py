"""What to do while the gateway answers 326: an earlier session under our clientId is not dead yet.

Being admitted is the fence (G2). An agent only makes the admission come sooner; its word is never taken for it (R15).
The agents: `Wait` here, `ha.fence_haproxy`, `ha.fence_command`. Whose session may be ended, and how often, is `FenceRule`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Who(StrEnum):
    """Whose connection to the gateway an agent found."""

    OTHER = "the other replica"
    OURSELVES = "an earlier connection of this replica"
    STRANGER = "a stranger"


@dataclass(frozen=True, slots=True)
class Holder:
    """One connection that may hold our clientId: where it came in, its far end as HOST:PORT, and its age in words."""

    door: str
    address: str
    age: str
    who: Who

    def __str__(self) -> str:
        return f"{self.address} through {self.door}, {self.age} old ({self.who})"


@dataclass(frozen=True, slots=True)
class Dropped:
    """The agent saw every connection that comes by the replicas' way. It ended `holders` and left `strangers`.

    Both empty: nobody came that way, so that whoever has the clientId came by another one, or has just gone.
    """

    holders: tuple[Holder, ...] = ()
    strangers: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True)
class NothingKnown:
    """The agent cannot tell who was connected; the text says why."""

    reason: str


Outcome = Dropped | NothingKnown


class FenceAgent(Protocol):
    """Gets the old broker session closed. Called after each 326, after a commit under our epoch (R13)."""

    async def drop_old_session(
        self, *, open_now: Collection[str] = (), dialed: Collection[str] = (), strangers: bool = True
    ) -> Outcome:
        """Do what can be done within a bounded time, then return; the caller dials again. Never raises.

        Addresses are our own ends as HOST:PORT: connections in `open_now` live on, those from `dialed` are ours and
        over. With `strangers` false only the other replica's sessions and our own are ended.
        """
        ...


class Wait:
    """The agent `wait`: the old socket ends by itself, at the latest when the gateway's keepalive notices."""

    def __init__(self, pause: float = 0.1) -> None:
        self._pause = pause

    async def drop_old_session(
        self,
        *,
        open_now: Collection[str] = (),  # noqa: ARG002 - the port's
        dialed: Collection[str] = (),  # noqa: ARG002
        strangers: bool = True,  # noqa: ARG002
    ) -> Outcome:
        """See FenceAgent."""
        await asyncio.sleep(self._pause)
        return NothingKnown("the agent `wait` looks at nothing")


STRANGER_REMEMBERED = 600.0
"""Seconds: a stranger that comes back within this time after it was dropped is not dropped again."""


class FenceRule:
    """R16: who may be fenced, and when everything must be held. Pure; one for the life of the process.

    The other replica is fenced until we are admitted: it cannot dial again without a commit under the present epoch
    (R13), so that cannot become a war. A stranger, who can, is fenced once.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._refused_since: float | None = None
        self._stranger_dropped_at: float | None = None
        self._dropped: frozenset[str] = frozenset()  # the addresses of the strangers dropped then

    def begin(self) -> None:
        """A phase CONNECTING begins: its deadline counts from its first 326. What strangers did is not forgotten."""
        self._refused_since = None

    def may_drop_strangers(self, now: float) -> bool:
        """Whether a session that is not the other replica's may be ended at `now` (seconds)."""
        return self._stranger_dropped_at is None or now - self._stranger_dropped_at > STRANGER_REMEMBERED

    def after(self, outcome: Outcome, now: float) -> str | None:
        """Why everything must be held after a 326 and this outcome at `now` (seconds); None = dial again."""
        if self._refused_since is None:
            self._refused_since = now
        if isinstance(outcome, Dropped):
            # One that was dropped and is still in the relay's list has not come back; it is about to go.
            if again := [str(holder) for holder in outcome.strangers if holder.address not in self._dropped]:
                return f"our clientId is in use (326), taken again after its holder was dropped: {'; '.join(again)}"
            if strangers := {holder.address for holder in outcome.holders if holder.who is Who.STRANGER}:
                self._stranger_dropped_at, self._dropped = now, frozenset(strangers)
        if now - self._refused_since < self._deadline:
            return None
        return f"our clientId was in use (326) for {now - self._refused_since:.0f} s: {_known(outcome)}"


def _known(outcome: Outcome) -> str:
    if isinstance(outcome, NothingKnown):
        return f"its holder is not known, {outcome.reason}"
    if outcome.holders:
        return f"held last by {outcome.holders[-1]}"
    return "nobody came through the relay, so look on the gateway's host who is connected to it directly"
