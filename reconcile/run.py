"""One reconciliation: collect, compare, look up, repair, collect again, and expect no difference.

collect -> what came in meanwhile is committed -> diff -> table -> one fenced group -> collect again
nothing to repair and nothing doubtful: one collection is enough
only doubts about single contracts left: the gate may open for the others while a second look decides
still doubtful after the last round: parked (IN_DOUBT, a break), and the gate may open for the rest (R24)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from typing import Any, Literal

from loguru import logger

from engine import failpoint
from engine.archive import Archive, LookedUp
from engine.book import Book
from engine.broker import Broker
from engine.clock import Clock, boottime, utcnow
from engine.commit import Outcome
from engine.events import Draft, Event
from engine.position import Break
from engine.risk import NO_LIMITS, Limits
from engine.store import StoreError
from reconcile.adopt import Adoption, adoption
from reconcile.apply import ApplyResult, Commits, apply, apply_each, barrier, commit
from reconcile.collect import LEAST, collect, no_losses
from reconcile.diff import compare
from reconcile.left import sift, to_recall
from reconcile.plan import Plan, contracts_of, make_plan
from reconcile.positions import PositionDiffers
from reconcile.snapshot import EVICTED, Identity, Snapshot

Early = Callable[[frozenset[tuple[str, str]], int], None]
"""Takes the doubtful contracts (account, symbol) and the highest epoch in a reference that the broker showed."""

_LOOKS = 4
"""Looks into the database for one snapshot: the execution, its order, and what that changes."""

Ending = Literal["agreed", "parked", "session_lost", "fenced", "unknown"]


@dataclass(frozen=True, slots=True)
class Result:
    """How a reconciliation ended.

    `agreed`: a complete snapshot showed nothing to do. `parked`: the gate may open, and what is doubtful is held by breaks or waits
    for the next reconciliation (`missing` names what did not come). `session_lost`, `fenced`: void, the session (or the gateway
    behind it) or the term is over. `unknown`: a commit was refused in every round, or its outcome is not known; reconcile again
    before the gate opens.
    """

    verdict: Ending
    rounds: int
    repaired: int
    held: int
    differences: tuple[str, ...]
    elapsed_ms: float
    missing: tuple[str, ...]
    why: str = ""
    highest_epoch: int = 0  # in the references that the broker showed (R18)
    unwritten: frozenset[tuple[str, str]] = frozenset()  # contracts of what could not be written: not to be traded
    told: tuple[dict[str, Any], ...] = ()  # each difference of its rounds once, for a person to read

    @property
    def gate_may_open(self) -> bool:
        """Whether the reconciliation came to its end."""
        return self.verdict in ("agreed", "parked")


@dataclass(slots=True)
class _Run:
    """What one reconciliation has done so far."""

    started: float
    ends: float
    lists: float = 0.0
    latest: float = inf
    rounds: int = 0
    repaired: int = 0
    held: int = 0
    differences: list[str] = field(default_factory=list)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    highest_epoch: int = 0
    recent: bool = False  # whether recent snapshots still do
    doubts: dict[str, float] = field(default_factory=dict)  # keys of what waits -> when it was first seen
    unwritten: frozenset[tuple[str, str]] | None = frozenset()  # None: something that is about no single contract
    verified: bool = False  # whether the latest snapshot showed nothing to repair

    def note(self, snapshot: Snapshot, plan: Plan) -> None:
        self.missing = snapshot.missing
        acts = [ruling for ruling in plan.rulings if ruling.drafts or ruling.waits]
        self.differences += [str(ruling) for ruling in acts]
        self.told |= {ruling.difference.key: ruling.told() for ruling in acts}

    def doubt(self, plan: Plan, now: float) -> None:
        self.doubts = {key: self.doubts.get(key, now) for key in plan.undecided}
        self.verified = not plan.drafts
        self.recent = self.recent and plan.only_orders


class Reconciler:
    """Makes the book and the broker agree. One per process; runs one reconciliation at a time.

    `present_session()` is the number of the session that is up now, None without one (default: the last one that the book knows);
    `losses()` counts messages that could not be decoded; `link_up()` is whether the gateway has a link to IB, as far as it said;
    `carry_out(events)` writes the cancels that committed events license (without it none is licensed); `limits` are what an
    order that a person changed at the broker is checked against; `archive` is asked for what has left memory (without it, facts
    about that count as missing); `day_began()` is since when the gateway shows what happened, None = not known (R23).
    """

    def __init__(
        self,
        book: Book,
        broker: Broker,
        *,
        cluster: str,
        client_id: int,
        present_session: Callable[[], int | None] | None = None,
        losses: Callable[[], int] = no_losses,
        link_up: Callable[[], bool] = lambda: True,
        carry_out: Callable[[Sequence[Event]], None] | None = None,
        limits: Limits = NO_LIMITS,
        day_began: Callable[[], datetime | None] = lambda: None,
        archive: Archive | None = None,
        clock: Clock = boottime,
    ) -> None:
        self._book, self._broker, self._me = book, broker, Identity.of(cluster, client_id)
        self._present_session = present_session or (lambda: book.session)
        self._losses, self._link_up, self._clock = losses, link_up, clock
        self._day_began = day_began
        self._carry_out, self._limits, self._archive = carry_out, limits, archive
        self._one_at_a_time = asyncio.Lock()

    async def reconcile(
        self,
        committer: Commits,
        session: int,
        *,
        deadline: float,
        lists: float = 0.0,
        at_most: float = inf,
        rounds: int = 3,
        hold_back: float = 0.2,
        recent: bool = False,
        early: Early | None = None,
    ) -> Result:
        """Reconcile on `session`, in at most `rounds` collections within `deadline` seconds (commits not counted).

        `lists`: seconds by which each collection may take longer, once the gateway has answered. `at_most`: seconds for all of
        them, whatever is coming.
        A doubt is held back: it becomes a hold only when a collection at least `hold_back` seconds later shows it too.
        `recent`: ask for what is new only, so that the cost does not grow with the day; a doubt about anything but the state of
        single orders is looked at in whole snapshots.
        `early` is called once when a complete snapshot left nothing but doubts about single contracts: the gate may open for all
        others while this reconciliation goes on.
        """
        async with self._one_at_a_time:
            now = self._clock()
            run = _Run(now, now + deadline, lists, now + at_most, recent=recent)
            verdict, why = await self._rounds(run, committer, session, rounds, hold_back, early)
        elapsed_ms = (self._clock() - run.started) * 1000
        result = Result(verdict, run.rounds, run.repaired, run.held, tuple(run.differences), elapsed_ms, run.missing, why,
                        run.highest_epoch, run.unwritten or frozenset(), tuple(run.told.values()))  # fmt: skip
        quiet = result.verdict == "agreed" and not result.differences
        logger.log("DEBUG" if quiet else "INFO" if result.gate_may_open else "WARNING", "reconciliation: {}", result)
        return result

    async def dry_run(self, session: int, *, deadline: float, lists: float = 0.0) -> Plan:
        """What the table says of one snapshot, doubts decided at once; nothing is committed."""
        async with self._one_at_a_time:
            snapshot, _ = await self._sifted(await self._collect(session, deadline, lists), None)
            return self._plan(snapshot, frozenset(), 0, last=True)

    async def look(self, session: int, *, deadline: float, lists: float = 0.0) -> Snapshot:
        """One whole snapshot, for somebody else's decision; nothing is committed."""
        async with self._one_at_a_time:
            return await self._collect(session, deadline, lists)

    def shows(self, snapshot: Snapshot, oid: str) -> bool:
        """Whether the snapshot shows anything under the reference of our order `oid`."""
        return snapshot.shows(self._me, oid)

    def position(self, snapshot: Snapshot, found: Break) -> PositionDiffers | None:
        """What the snapshot shows otherwise of the contract of this position break; None when it agrees or was not shown."""
        return next(
            (d for d in compare(self._book, snapshot, self._me)
             if isinstance(d, PositionDiffers) and d.opened is found and not d.agrees), None,
        )  # fmt: skip

    async def recall(self, committer: Commits, perm_id: int) -> None:
        """Take back into memory what has left of the broker's order `perm_id`, so that an adoption sees all of it.

        Raises StoreError where the database does not say, or where it could not be written.
        """
        if self._archive is None or not self._book.evicted.any:
            return
        for found in await self._archive.of_perm_id(perm_id):
            done = await commit(committer, [found.draft(utcnow())])
            if done.outcome is not Outcome.COMMITTED:
                raise StoreError(f"what has left memory could not be recalled: {done.why}")

    def adoption(self, snapshot: Snapshot, asked: Adoption) -> list[Draft]:
        """See `reconcile.adopt`. Raises CannotAdopt."""
        return adoption(self._book, snapshot, self._me, asked)

    # ---- rounds

    async def _rounds(
        self, run: _Run, committer: Commits, session: int, rounds: int, hold_back: float, early: Early | None
    ) -> tuple[Ending, str]:
        refused = ""
        while run.rounds < rounds:
            if (
                early is None or run.verified
            ):  # else what was repaired is verified first: the gate waits for it, not for doubts
                await self._hold_back(run, hold_back)
            run.rounds += 1
            began, left = self._clock(), run.ends - self._clock()
            is_last = run.rounds == rounds or began >= run.latest
            # IB is asked where an absence is decided, and not while a gate waits for what needs no decision (R6)
            decides = rounds == 1 or (bool(run.doubts) and (early is None or is_last))
            seconds = left if is_last else left / 2
            most = max(run.latest - began, LEAST)
            snapshot = await self._collect(session, seconds, run.lists, most, recent=run.recent, prove_link=decides)
            run.ends += max(
                0.0, self._clock() - began - seconds
            )  # lists that were coming take nothing from the rounds to come
            if snapshot.silent and self._broker.heard_at < began:  # else it answers, and more than there was time for
                run.missing = snapshot.missing
                return "session_lost", "the gateway answered nothing"
            if (end := self._void(session, await barrier(committer))) is not None:
                return end
            run.highest_epoch = max(run.highest_epoch, snapshot.highest_epoch(self._me))
            snapshot, recalled = await self._sifted(snapshot, committer)
            if (end := self._void(session, recalled, repaired=True)) is not None:
                return end
            now = self._clock()
            last = is_last or now + hold_back >= run.ends
            seen_before = frozenset(key for key, since in run.doubts.items() if now - since >= hold_back)
            plan = self._plan(snapshot, seen_before, committer.epoch, last=last)
            run.note(snapshot, plan)
            failpoint.hit("takeover.collected")
            if not plan.drafts and not plan.undecided and not snapshot.missing:
                return ("parked" if run.held else "agreed"), ""
            applied = await self._apply(run, committer, plan)
            if (end := self._void(session, applied, repaired=True)) is not None:
                return end
            refused = "" if run.unwritten else applied.why
            if last and not refused:
                break
            run.doubt(plan, now)
            if early is not None and run.verified and snapshot.complete and plan.doubtful_contracts is not None:
                early(plan.doubtful_contracts, run.highest_epoch)
                early = None
        return ("unknown", refused) if refused else ("parked", "")

    async def _hold_back(self, run: _Run, seconds: float) -> None:
        if run.doubts:
            await asyncio.sleep(max(0.0, max(run.doubts.values()) + seconds - self._clock()))

    async def _collect(
        self,
        session: int,
        seconds: float,
        lists: float,
        most: float = inf,
        *,
        recent: bool = False,
        prove_link: bool = True,
    ) -> Snapshot:
        return await collect(
            self._broker, deadline=seconds, lists=lists, at_most=most, book=self._book, session=session, recent=recent,
            prove_link=prove_link, losses=self._losses, link_up=self._link_up, clock=self._clock,
        )  # fmt: skip

    async def _sifted(self, snapshot: Snapshot, committer: Commits | None) -> tuple[Snapshot, ApplyResult]:
        """The snapshot as far as it is about memory, once what it wants of what has left has been recalled (not by a dry run).

        Where that cannot be looked up, the snapshot is incomplete (G6).
        """
        known, done = LookedUp(), ApplyResult(Outcome.COMMITTED, "", ())
        for _ in range(_LOOKS):
            sifted, wanted = sift(self._book, snapshot, self._me, known)
            if not wanted:
                return sifted, done
            try:
                if self._archive is None:
                    break
                await self._archive.look_up(wanted, known)
            except StoreError as error:
                logger.warning("what has left memory cannot be looked up: {}", error)
                break
            if committer is None:
                continue
            for found in to_recall(self._book, wanted, known):
                logger.info(
                    "recalled into memory: order {}, {} executions",
                    found.order and found.order.id,
                    len(found.executions),
                )
                done = await commit(committer, [found.draft(utcnow())])
                if done.fenced or done.outcome is Outcome.UNKNOWN:
                    return sifted, done
        sifted, wanted = sift(self._book, snapshot, self._me, known)
        return (replace(sifted, missing=(*sifted.missing, EVICTED)) if wanted else sifted), done

    def _plan(self, snapshot: Snapshot, doubted: frozenset[str], epoch: int, *, last: bool) -> Plan:
        differences = compare(self._book, snapshot, self._me)
        return make_plan(
            self._book, snapshot, differences, self._me, utcnow(), doubted=doubted, last=last, limits=self._limits,
            may_cancel=self._carry_out is not None, day_began=self._day_began(), epoch=epoch,
        )  # fmt: skip

    async def _apply(self, run: _Run, committer: Commits, plan: Plan) -> ApplyResult:
        run.unwritten = frozenset()
        if not plan.drafts:
            return ApplyResult(Outcome.COMMITTED, "", ())
        applied = await apply(committer, plan)
        if applied.outcome is Outcome.REFUSED and not applied.fenced and len(plan.in_order) > 1:
            applied, refused = await apply_each(committer, plan)
            run.unwritten = contracts_of(refused)
        elif applied.outcome is Outcome.REFUSED and not applied.fenced:
            run.unwritten = contracts_of(plan.in_order)
        if applied.outcome is Outcome.COMMITTED:
            if self._carry_out is not None:
                self._carry_out(applied.events)
            run.repaired += plan.repaired
            run.held += plan.held
            failpoint.hit("takeover.repaired")
        return applied

    def _void(self, session: int, commit: ApplyResult, *, repaired: bool = False) -> tuple[Ending, str] | None:
        """Why nothing more can be said, or None. A refused repair is no end: the state has moved on, collect again."""
        if commit.fenced:
            return "fenced", commit.why
        if commit.outcome is Outcome.UNKNOWN or (commit.outcome is Outcome.REFUSED and not repaired):
            return "unknown", commit.why
        if (present := self._present_session()) != session:
            return "session_lost", f"session {session} is over, the present one is {present}"
        return None
