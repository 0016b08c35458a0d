"""The way into the log: group commit under one epoch, and what to do when the answer is lost.

One task writes, on one connection, so that `seq` is dense and in commit order (R21). Groups that arrive together share a
commit; each group stays whole. Outcomes: committed, refused (nothing written), unknown (R9, R20).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from loguru import logger

from engine import failpoint
from engine.audit_note import noted
from engine.book import Book
from engine.clock import Clock, boottime, iso, utcnow
from engine.digest import written
from engine.events import LEDGER_LEVEL, Draft, Event, Kind, above, place
from engine.store import HOLE, OTHER_EVENTS, Connection, Refused, Row, Unknown, writer_name
from engine.trial import Trial

MAX_GROUP = 256
"""Events in one statement at most: a bound on the time for which everybody behind waits."""

TOGETHER_WITHIN = 0.005
"""Seconds for which evidence waits, while there is much to write, for a commit that somebody else needs."""
MUCH, IN_TIME = 4, 0.02
"""There is much to write while so many statements were written within so many seconds."""
_PATIENT = frozenset({Kind.ORDER_WORKING, Kind.EXECUTION, Kind.COMMISSION})
"""Nobody waits for these commits, and what a crash keeps from the log the broker tells again."""


class Outcome(Enum):
    """How a group ended."""

    COMMITTED = "committed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


Done = Callable[[Outcome, Sequence[Event], str], None]


PROMPT = 0.5
"""Seconds after which a proof's answer says less of the database's clock than the one before it: it was read in between (R8)."""
UNPROVEN = 0.3
"""Seconds for the last word of a term whose proofs are overdue."""
PREPARED = 4
"""Groups whose `meanwhile` is called: with more of them it would last longer than the commit."""


@dataclass(slots=True)
class _Group:
    drafts: Sequence[Draft]
    done: Done
    meanwhile: Callable[[], None] | None = None
    events: list[Event] = field(default_factory=list)


class Committer:
    """Writes groups of events under one epoch, folds them into the book, then tells each group, in accept order (R9).

    Live from `open` to `close`; a new term makes a new Committer. `on_fenced` is called once when the database says that
    another epoch is present; `on_proof(started)` after each commit that succeeded (R12).
    """

    def __init__(
        self,
        connection: Connection,
        replica: str,
        instance: str,
        epoch: int,
        book: Book,
        *,
        on_fenced: Callable[[str], None],
        on_proof: Callable[[float], None],
        proof_every: float = 0.25,
        place: tuple[str, str] | None = None,
        level: int = LEDGER_LEVEL,
        keep_ended: int | None = None,
        clock: Clock = boottime,
    ) -> None:
        """`place`: the server's identity and timeline under which the epoch was claimed (R18), None = as the first proof says.

        `level`: the ledger's level when the term began; each proof reads it anew (R22). `keep_ended`: how many ended orders are to
        stay in memory, None = as the log has it.
        """
        self.epoch, self._book, self._instance = epoch, book, instance
        self._connection, self._tag = connection, writer_name(epoch, replica)
        self._on_fenced, self._on_proof = on_fenced, on_proof
        self._proof_every, self._clock = proof_every, clock
        self._queue: deque[_Group] = deque()
        self._due = False  # whether what is queued is to be written now
        self._patience: asyncio.TimerHandle | None = None
        self._wrote_at: deque[float] = deque([float("-inf")] * MUCH, maxlen=MUCH)  # when the last statements were sent
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._proof_due = 0.0
        self._alarm: asyncio.TimerHandle | None = None  # wakes the writing task for its next proof
        self.state = ""
        self.closed = False
        self.database_offset: float | None = None  # database clock minus ours, seconds, as of the last proof
        self._answer_lost = False  # of the group in flight
        self.control: dict[str, Any] = {}  # operators' wishes, as of the last proof (R29)
        self._place = place
        self.level = level
        self._keep_ended, self._bounding = keep_ended, False
        self._noting = 0  # the last command of an operator that is on its way to the log

    def may_write(self, *kinds: Kind) -> str | None:
        """R22: why the ledger's level does not admit events of these kinds yet, None when it does. Ask before deciding on one."""
        return above(self.level, kinds)

    async def open(self) -> None:
        """Start writing, on a connection that is open and now carries this epoch's tag (R11). Raises StoreError."""
        await self._connection.tag(self._tag)
        self._task = asyncio.create_task(self._write_for_ever(), name="committer")
        self._task.add_done_callback(self._ended)

    def submit(self, drafts: Sequence[Draft], done: Done, meanwhile: Callable[[], None] | None = None) -> None:
        """Queue one group. `done` is called on the event loop: with its events when committed, with a sentence otherwise.

        `meanwhile` is called, if there is time, while PostgreSQL commits, which it may refuse to do: nothing may depend on it.
        """
        if self.closed:
            done(Outcome.REFUSED, (), "the term is over")
            return
        self._queue.append(_Group(drafts, done, meanwhile))
        if not drafts or self._clock() - self._wrote_at[0] > IN_TIME or not all(d.kind in _PATIENT for d in drafts):
            self._write_now()
        elif self._patience is None and not self._due:
            self._patience = asyncio.get_running_loop().call_later(TOGETHER_WITHIN, self._write_now)

    def _write_now(self) -> None:
        self._due = True
        self._wake.set()

    async def commit(self, drafts: Sequence[Draft]) -> tuple[Outcome, Sequence[Event], str]:
        """`submit`, awaited."""
        answer: asyncio.Future[tuple[Outcome, Sequence[Event], str]] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome, events: Sequence[Event], why: str) -> None:
            if not answer.done():
                answer.set_result((outcome, events, why))

        self.submit(drafts, done)
        return await answer

    async def prove_now(self) -> None:
        """One proof of epoch, now (R13: before each attempt to connect). Raises Refused when fenced or elsewhere, Unknown."""
        started = self._clock()
        book, written_to = self._book, self._book.seq
        said = {"epoch": self.epoch, "instance": self._instance, "seq": book.seq, "digest": written(book.digest)}
        said |= {"state": self.state, "noted": max(book.commands, self._noting)}
        [row] = await self._connection.run("prove", said, deadline=2.0)
        self._proof_due = started + self._proof_every
        if self.database_offset is None or self._clock() - started <= PROMPT:
            self.database_offset = row["now"].timestamp() - utcnow().timestamp()
        self.control, self.level = row["control"] or {}, row["level"]
        self._note(row["commands"] or [])
        self._bound_memory()
        self._see_place(row, written_to)  # restored under a leader that went on proving its epoch
        self._on_proof(started)

    def _note(self, commands: Sequence[dict[str, Any]]) -> None:
        """Note in the log what operators asked for, behind what waits already; on a level that has no such event, later (R22)."""
        if not commands or self.may_write(Kind.OPERATOR_COMMAND) is not None:
            return
        self._noting = commands[-1]["id"]

        def done(outcome: Outcome, _events: Sequence[Event], why: str) -> None:
            self._noting = 0  # what is not in the log by now is read and noted again
            if outcome is not Outcome.COMMITTED:
                logger.warning("an operator's command is not noted yet: {}", why)

        self.submit(noted(commands, utcnow()), done)

    def _bound_memory(self) -> None:
        """Write down how many ended orders stay in memory where the log says otherwise, as soon as the level admits it (R22)."""
        wanted = self._keep_ended
        if self._bounding or wanted in (None, self._book.keep_ended) or self.may_write(Kind.MEMORY_BOUND) is not None:
            return
        self._bounding = True

        def done(outcome: Outcome, _events: Sequence[Event], why: str) -> None:
            self._bounding = False
            if outcome is not Outcome.COMMITTED:
                logger.warning("the bound of memory is not written down yet: {}", why)

        self.submit([Draft(Kind.MEMORY_BOUND, {"keep_ended": wanted}, utcnow())], done)

    def _see_place(self, row: Row, written_to: int) -> None:
        """R18: another server or timeline may lack what this term has written: the term ends, and everything is looked at anew."""
        place = (row["system"], row["timeline"])
        if self._place not in (None, place):
            raise Refused(OTHER_EVENTS, f"the database changed under this term: {self._place} became {place}")
        if row["head"] < written_to:
            raise Refused(OTHER_EVENTS, f"the log ends at event {row['head']}, this term has written {written_to}")
        self._place = place

    def stop(self) -> None:
        """Take nothing more and tell everybody who waits; synchronous, the first thing of a step-down."""
        self.closed = True
        for group in self._queue:
            group.done(Outcome.REFUSED, (), "the term is over")
        self._queue.clear()
        self._wake.set()

    async def leave_word(self, word: Callable[[], Sequence[Draft]], seconds: float) -> None:
        """After `stop`: let what is in flight end, then commit one group more, `word()`, all within so many seconds.

        What cannot be written any more, because another epoch is present or PostgreSQL is away, is left unsaid; it is hardly
        waited for where the proofs failed: whoever steps down by that has to give the lease back.
        """
        if not self._connection.is_open:
            return
        if self._clock() - self._proof_due > self._proof_every:
            seconds = min(seconds, UNPROVEN)
        try:
            async with asyncio.timeout(seconds):
                if self._task is not None:
                    await asyncio.wait({self._task})
                if drafts := word():
                    await self._append([_Group(drafts, lambda _outcome, _events, _why: None)])
        except (TimeoutError, Refused, Unknown) as error:
            logger.warning("the term's last word was not written: {}", str(error) or f"not within {seconds:g} s")

    async def close(self) -> None:
        """Stop and close the connection. What was in flight is unknown to its group."""
        self.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._connection.close()

    # ---- the writing task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A defect in the writing task ends the term: without a writer nothing can be licensed or proven."""
        if not task.cancelled() and (defect := task.exception()) is not None:
            logger.opt(exception=defect).critical("the writing task met a defect")
            self.stop()
            self._on_fenced(f"a defect in the writing task: {defect}")

    async def _write_for_ever(self) -> None:
        while not self.closed:
            try:
                if not self._connection.is_open:
                    await self._reopen()
                if self._clock() >= self._proof_due:
                    await self.prove_now()
                if self._queue and self._due:
                    await self._write_group()
                elif not self.closed:
                    await self._sleep()
            except Refused as refused:
                self._fenced_or_raise(refused)
                return
            except Unknown:
                await asyncio.sleep(0.05)  # PostgreSQL is away: the proof ages, the gate shuts by itself (R12)

    async def _sleep(self) -> None:
        """Until there is something to write, or the next proof is due."""
        self._wake.clear()
        loop = asyncio.get_running_loop()
        if self._alarm is None or self._alarm.when() <= loop.time():  # one for each proof, not one for each sleep
            self._alarm = loop.call_later(max(0.0, self._proof_due - self._clock()), self._wake.set)
        await self._wake.wait()

    def _fenced_or_raise(self, refused: Refused) -> None:
        if not self._over(refused):
            raise refused
        self.stop()
        self._on_fenced(str(refused))

    @staticmethod
    def _over(refused: Refused) -> bool:
        """Whether the log will take nothing more of this term: fenced, or the database is not where this book is (R18)."""
        return refused.fenced or refused.sqlstate in (HOLE, OTHER_EVENTS)

    async def _reopen(self) -> None:
        old = self._connection.backend_pid
        await self._connection.open(deadline=1.0)
        if old is not None:  # what it was doing must be over before we repeat it (R20)
            await self._connection.run("end_backend", {"pid": old}, deadline=1.0)
        [pulse] = await self._connection.run("pulse", deadline=1.0)
        self._see_place(pulse, self._book.seq)  # before a write: elsewhere an older epoch may count as present again
        await self.prove_now()

    async def _write_group(self) -> None:
        groups: list[_Group] = []
        size = 0
        while self._queue and (not groups or size + len(self._queue[0].drafts) <= MAX_GROUP):
            groups.append(self._queue.popleft())
            size += len(groups[-1].drafts)
        self._due = bool(self._queue)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._wrote_at.append(self._clock())
        if not (groups := self._foldable(groups)):
            return
        try:
            await self._append(groups)
        except Refused as refused:
            lost = self._answer_lost
            if self._over(refused) or len(groups) == 1:
                self._refuse(groups, refused, lost=lost)
                return
            for number, group in enumerate(groups):  # R9: one bad intent does not take the others with it
                try:
                    if self._foldable([group]):
                        await self._append([group])
                except Refused as alone:
                    mine = groups[number:] if self._over(alone) else [group]
                    self._refuse(mine, alone, lost=lost or self._answer_lost)

    def _refuse(self, groups: list[_Group], refused: Refused, *, lost: bool) -> None:
        # R20: after a lost answer a refusal, whatever it is about, says nothing of the first attempt
        for group in groups:
            group.done(Outcome.UNKNOWN if lost else Outcome.REFUSED, (), str(refused))
        if self._over(refused):
            raise refused

    async def _append(self, groups: list[_Group]) -> None:
        seq = self._book.seq
        for group in groups:
            group.events = [place(draft, seq + i, self.epoch) for i, draft in enumerate(group.drafts, start=1)]
            seq += len(group.events)
        rows = json.dumps([_row(event) for group in groups for event in group.events])
        failpoint.hit("commit.before_send")
        self._behind_the_send([group.meanwhile for group in groups if group.meanwhile is not None][:PREPARED])
        try:
            await self._append_until_known(rows)
        except asyncio.CancelledError:
            for group in groups:
                group.done(Outcome.UNKNOWN, (), "the term ended while the commit was in flight")
            raise
        failpoint.hit("commit.after_answer")
        for group in groups:
            for event in group.events:
                self._book.apply(event)
            group.done(Outcome.COMMITTED, group.events, "")

    @staticmethod
    def _behind_the_send(work: Sequence[Callable[[], None]]) -> None:
        """Call these two turns of the event loop from now: in the first one the statement leaves."""
        if work:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, lambda: [one() for one in work])

    def _foldable(self, groups: list[_Group]) -> list[_Group]:
        """The groups that the book would fold as it stands; the others are refused, nothing of them is written."""
        trial, kept = Trial(self._book), []
        for group in groups:
            why = self.may_write(*(draft.kind for draft in group.drafts)) or trial.refuses(group.drafts)
            if why is None:
                kept.append(group)
            else:
                group.done(Outcome.REFUSED, (), why)
        return kept

    async def _append_until_known(self, rows: str) -> None:
        """R20: after a lost answer the same insert is repeated until it is known; nothing else is written before."""
        self._answer_lost = False
        while True:
            started = self._clock()
            try:
                if not self._connection.is_open:
                    await self._reopen()
                await self._connection.run("append", {"epoch": self.epoch, "events": rows})
            except Unknown as lost:
                if not self._answer_lost:
                    logger.warning("a commit's answer was lost, repeating the same insert: {}", lost)
                self._answer_lost = True
                await asyncio.sleep(0.05)
                continue
            self._on_proof(started)
            return

    @property
    def waiting(self) -> int:
        """Groups that wait for their commit."""
        return len(self._queue)


def _row(event: Event) -> dict[str, object]:
    return {
        "seq": event.seq, "event_id": event.event_id, "event_type": event.kind, "correlation_id": event.correlation_id,
        "order_id": event.order_id, "user_id": event.subject, "timestamp": iso(event.at), "payload": event.payload,
    }  # fmt: skip
