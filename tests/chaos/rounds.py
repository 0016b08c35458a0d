"""One round of a random run: orders flow, the plan's faults strike, all heals, and the judge looks at this round."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
import psycopg

from ha.demo.fetch import FetchFailed
from ha.demo.history import time_of
from ha.local.probe import PartFailed
from ha.local.process import Child
from tests.chaos import measure
from tests.chaos.catalogue import Entry, Form
from tests.chaos.check import Bite, in_a_quiet_moment
from tests.chaos.cluster import CLIENT_ID, HEALS_WITHIN, Cluster, NotHealed
from tests.chaos.desk import attended
from tests.chaos.evidence import stopwatch
from tests.chaos.faults import DidNotBite
from tests.chaos.record import Came, Round, Struck
from tests.chaos.scenario import Outcome, flow
from tests.chaos.schedule import Act, Plan
from tests.chaos.traffic import Load, finished

MOST_SECONDS = (
    150.0  # of orders in one round; what has not struck so long before their end that it can heal is left out
)
LONGEST_ACT = 60.0
TAIL = 1.0
SETTLE = 6.0
REPEAT_FOR = 5.0  # a thousand clients that repeat for a minute keep a pair on one machine from anything else
_MISSED = (
    DidNotBite, NotHealed, LookupError, TimeoutError, FetchFailed, PartFailed, aiohttp.ClientError, psycopg.Error, OSError,
)  # fmt: skip


class Tell(Protocol):
    """Takes sentences about what happens."""

    def __call__(self, sentence: str) -> None:
        """Takes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all rounds of a run have in common."""

    catalogue: Mapping[str, Entry]
    form: Form
    rate: float
    tell: Tell
    came: Callable[[Came], None] = lambda _: None
    """Called when it is known whether a fault took effect."""


@dataclass(slots=True)
class Strikes:
    """The faults of one plan, struck in order while orders flow. `bites` and `missed` are what came of them."""

    cluster: Cluster
    plan: Plan
    setting: Setting
    bites: list[tuple[str, str, Bite]] = field(default_factory=list)
    missed: list[Struck] = field(default_factory=list)
    called_dead: list[str] = field(default_factory=list)
    seq: int = 0
    """Of the last entry of the broker's journal that was looked at."""

    async def strike(self, traffic: Child) -> list[Bite]:
        """Returns when the traffic has ended. Raises TrafficFailed."""
        elapsed = stopwatch()
        async with attended(self.cluster) as self.called_dead:
            await self._strike_all(elapsed)
            traffic.send(signal.SIGTERM)
            await finished(traffic)
        return [bite for _, _, bite in self.bites]

    async def _strike_all(self, elapsed: Callable[[], float]) -> None:
        for stroke in self.plan.strokes:
            await self._recovered(stroke.whole)
            await asyncio.sleep(stroke.after)
            if elapsed() > MOST_SECONDS - HEALS_WITHIN:
                self.missed += [self._missed(act, "the round had lasted too long") for act in stroke.acts]
                continue
            async with asyncio.TaskGroup() as group:
                for act in stroke.acts:
                    group.create_task(self._act(act))
        await self._recovered(whole=True)
        await asyncio.sleep(TAIL)

    async def _recovered(self, whole: bool) -> None:
        """Return when somebody leads (and the other is a healthy standby) and orders reach the broker, so that a silence is
        of one stroke only; or when that took longer than it may."""
        cluster = self.cluster
        with suppress(TimeoutError):
            async with asyncio.timeout(HEALS_WITHIN):
                await cluster.until(cluster.scene.paired if whole else cluster.scene.leader, HEALS_WITHIN)
                now = datetime.now(UTC)
                while not await self._taken_since(now):
                    await asyncio.sleep(0.1)

    async def _taken_since(self, moment: datetime) -> bool:
        try:
            entries = (await self.cluster.broker("GET", f"/journal?after={self.seq}"))["entries"]
        except (aiohttp.ClientError, TimeoutError):  # a gateway that is away has taken nothing
            return False
        self.seq = entries[-1]["seq"] if entries else self.seq
        ours = (one for one in entries if one["kind"] == "order" and one.get("client_id") == CLIENT_ID)
        return any(time_of(one) > moment for one in ours)

    async def _act(self, act: Act) -> None:
        await asyncio.sleep(act.lag)
        entry, setting = self.setting.catalogue[act.name], self.setting
        fault = entry.make(random.Random(act.seed), setting.form)
        try:
            async with asyncio.timeout(max(LONGEST_ACT, 3 * entry.lasts)):
                bite = await fault.strike(self.cluster)
        except _MISSED as error:
            why = str(error) or f"it did not come in time ({type(error).__name__})"
            self.missed.append(self._missed(act, why))
            setting.tell(f"{act.name} did not bite: {why}")
            setting.came(Came.MISSED)
        else:
            self.bites.append((act.name, entry.kind, bite))
            setting.tell(measure.plain(bite.fault))
            setting.came(Came.BIT)

    def _missed(self, act: Act, why: str) -> Struck:
        return Struck(name=act.name, kind=self.setting.catalogue[act.name].kind, came=Came.MISSED, words=why)


@dataclass(frozen=True, slots=True)
class Played:
    """A round's record, and what it was made from; None when it could not be judged."""

    record: Round
    outcome: Outcome | None


async def play(cluster: Cluster, plan: Plan, setting: Setting, number: int, replay: str) -> Played:
    """Play one round on a whole pair; `number` is the cluster's. Never raises but for a cancellation."""
    took, strikes, began = stopwatch(), Strikes(cluster, plan, setting), datetime.now(UTC)
    load = Load(rate=setting.rate, seconds=MOST_SECONDS, settle=SETTLE, repeat_for=REPEAT_FOR)
    try:
        outcome = await flow(cluster, f"round {plan.number}", strikes.strike, load, plan.seed)
    except Exception as error:  # noqa: BLE001 - a long run goes on, and this round is a bad one, with its reason
        lost = [
            Struck(name=name, kind=kind, came=Came.QUIET, words=bite.fault, at=measure.since(began, bite.at))
            for name, kind, bite in strikes.bites
        ]
        problem = f"the round could not be judged: {_sentence(error)}"
        record = Round(
            number=plan.number, began=began.isoformat(), seconds=round(took(), 1), took=round(took(), 1), cluster=number,
            struck=[*lost, *strikes.missed], problems=[problem], replay=replay,
        )  # fmt: skip
        return Played(record, None)
    return Played(_told(outcome, strikes, began, took(), number, replay), outcome)


def _sentence(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _told(outcome: Outcome, strikes: Strikes, began: datetime, took: float, number: int, replay: str) -> Round:
    history = outcome.history
    start = measure.began(history) or began
    asked = [order.invoked_at for order in history.orders.values()]
    taken = measure.taken_at(outcome.journal, CLIENT_ID, outcome.since)
    stop = max(asked, default=start)
    bites = [bite for _, _, bite in strikes.bites]
    # counted apart: says something of the schedule, nothing of the pair
    quiet = {"no fault took effect", *in_a_quiet_moment(bites, history)}
    return Round(
        number=strikes.plan.number, began=start.isoformat(), seconds=measure.since(start, stop), took=round(took, 1),
        cluster=number, struck=[*measure.strikes(strikes.bites, history, taken, start), *strikes.missed],
        leads=measure.leads(outcome.probes, start), terms=measure.terms(outcome.terms, outcome.epoch_before, start),
        asked=measure.by_second(asked, start), taken=measure.by_second(taken, start),
        accepted=measure.by_second([answer.at for answer in history.accepted], start),
        silences=measure.silences(taken, start, stop), both=measure.overlaps(outcome.overlaps, start),
        counts=measure.counts(outcome.verdict, len(outcome.doubts)) | {"called_dead": len(strikes.called_dead)},
        problems=[problem for problem in outcome.problems() if problem not in quiet], replay=replay,
    )  # fmt: skip
