"""What a leader tends to during a term: the queue behind the gate, unanswered orders (R5), and reconciliation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from loguru import logger

from engine.broker import Broker
from engine.clock import Clock, boottime, utcnow
from engine.commit import Committer
from engine.events import Event, Kind
from engine.order import OPERATOR_DEAD, State
from engine.permit import Permit
from engine.submit import Desk
from ha.calendar import GatewayCalendar
from ha.phase import TermOver
from ha.role import On
from ha.second_try import Repetition, cancel_late, judge_late
from ha.takeover import Takeover
from ha.tend_rules import TendRules
from reconcile.plan import Plan
from reconcile.run import Early, Reconciler, Result
from reconcile.snapshot import LINK, Snapshot

TICK = 0.02
IDLE_TICK = 0.25
REMEMBER_EVERY = 1.0
CALENDAR_EVERY = 0.25  # seconds; time zones are reckoned with each time
WHOLE_EVERY = 300.0  # seconds between reconciliations in the background that ask for the whole day
WHOLE_DEADLINE = 30.0  # seconds that one may take: no gate waits for it, and a list that is cut off is asked for again
WHOLE_SHARE = 0.02  # of the time, at most, is spent on them: a day's list is long in the afternoon

_ATTEMPTS = 3
_EVIDENCE = frozenset({Kind.ORDER_WORKING, Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED, Kind.EXECUTION})


class Tender:
    """Runs from the claim to the end of the term. `session_lost(reason)` tells the node that we dropped our own session."""

    def __init__(
        self,
        takeover: Takeover,
        session_lost: Callable[[str], None],
        *,
        permit: Permit,
        desk: Desk,
        broker: Broker,
        reconciler: Reconciler,
        rules: TendRules,
        calendar: GatewayCalendar | None = None,
        clock: Clock = boottime,
    ) -> None:
        self._takeover, self._session_lost = takeover, session_lost
        self._permit, self._desk, self._broker, self._book = permit, desk, broker, desk.book
        self.reconciler, self._rules, self._clock = reconciler, rules, clock
        self.calendar = calendar or GatewayCalendar()  # without times: the gateway never restarts by itself
        self._repetition = Repetition(desk, permit, wanted=rules.same_id)
        self._doubts: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._link_back = False
        self._link_losses = 0
        self._reconciled_at = self._remembered_at = self._calendar_read_at = 0.0
        self._whole_due_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._second_look: asyncio.Task[Result] | None = None
        desk.book.observers.append(self._applied)
        self.last: Result | None = None

    def begin(self) -> None:
        """The term begins."""
        self._doubts.clear()
        self._whole_due_at = self._clock() + self._rules.reconcile_every
        self._calendar_read_at = 0.0
        self._tasks = [
            asyncio.create_task(self._tend_for_ever(), name="tend"),
            asyncio.create_task(self._reconcile_for_ever(), name="reconcile in the background"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def end(self) -> None:
        """The term is over."""
        for task in (*self._tasks, self._second_look):
            if task is not None:
                task.cancel()
        self._tasks, self._second_look = [], None

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody tends to the term any more: it ends."""
        if not task.cancelled() and (defect := task.exception()) is not None:
            logger.opt(exception=defect).critical("a defect in the task `{}`", task.get_name())
            self._takeover.end(f"a defect in the task `{task.get_name()}`: {defect}")

    def _applied(self, event: Event) -> None:
        if event.kind in (Kind.ORDER_ACCEPTED, Kind.CANCEL_REQUESTED, Kind.ORDER_UNLICENSED):
            self._wake.set()
        elif event.payload.get("reason") == OPERATOR_DEAD:
            return  # a person's word, no evidence
        elif event.kind in _EVIDENCE and (self._book.open_breaks or event.kind == Kind.EXECUTION):
            asyncio.get_running_loop().call_soon(self._surfaced, event.order_id)

    def _surfaced(self, oid: str | None) -> None:
        """R1: evidence about an order in doubt, or one that was called dead, is not left to the next periodic look."""
        order = self._book.orders.get(oid or "")
        if any(b.order_id == oid and b.kind == "in_doubt" for b in self._book.open_breaks.values()):
            self.doubt(f"order {oid} was in doubt and has surfaced")
        elif order is not None and order.final and order.reason == OPERATOR_DEAD:
            self.doubt(f"order {oid} was called dead and has traded")

    def doubt(self, reason: str) -> None:
        """Ask for a reconciliation soon."""
        if reason not in self._doubts:
            logger.warning("reconciling soon: {}", reason)
        self._doubts[reason] = None

    def link_lost(self) -> None:
        """1100: the gate is shut until a reconciliation after 1101 or 1102, however many there are (R6)."""
        self._link_losses += 1
        self._link_back = False
        self._desk.cancels.unconfirmed.link_lost(self._desk.unacknowledged)
        self._permit.shut["link"] = "The gateway lost its link to IB (1100)."

    def link_restored(self) -> None:
        """1101 or 1102: the gate opens after a reconciliation, not before (R6)."""
        self._desk.cancels.unconfirmed.link_back()
        self._link_back = True
        self.doubt("the gateway's link to IB is back")

    def obey(self) -> None:
        """Take up operators' wishes, as the last proof read them (R29)."""
        committer = self._takeover.committer
        if committer is not None:
            self._permit.obey(committer.control)

    # ---- reconciliation

    async def reconcile_session(self) -> On | None:
        """The one after each admission, with the gate shut. Raises TermOver when the term cannot go on.

        Of what is new only, when the ledger is known to end where it ended (R18); the whole day follows in the background. Doubts
        about single contracts do not keep the gate shut for the others: their second look goes on behind it.
        """
        opening: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def early(contracts: frozenset[tuple[str, str]], highest_epoch: int) -> None:
            if not opening.done():
                self._desk.second_look = contracts
                judge_late(self._takeover.committer, self._desk)
                opening.set_result(highest_epoch)

        if self._second_look is not None:
            self._second_look.cancel()  # of a session that is over: it must not speak for this one
        waits = self._takeover.must_hold is not None or self._may_repeat()  # there is nothing to open early
        work = asyncio.create_task(self._until_known(None if waits else early), name="reconcile")
        self._second_look = work
        waited: set[asyncio.Future[Any]] = {work, opening}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            work.cancel()
            raise
        if work.done():
            return self._agreed(work.result())
        session = self._permit.session
        work.add_done_callback(lambda done: self._decided(done, session))
        return self._open(opening.result())

    async def _until_known(self, early: Early | None) -> Result:
        recent = self._takeover.place_known
        result = await self._reconcile(recent, early)
        for _ in range(_ATTEMPTS - 1):
            if result.verdict == "unknown":  # the state moved on under each repair
                result = await self._reconcile(recent, early)
        if result.gate_may_open:
            judge_late(self._takeover.committer, self._desk, reconciled=True)
        return result

    def _agreed(self, result: Result) -> On | None:
        if result.verdict == "session_lost":
            self._session_lost("the session ended while reconciling")
            return None
        if not result.gate_may_open:
            raise TermOver(f"reconciliation could not be written: {result.why}")
        return self._open(result.highest_epoch)

    def _open(self, highest_epoch: int) -> On:
        self._takeover.claim_above(highest_epoch)
        self._see_hold()
        if self._takeover.must_hold is not None:
            return On.MUST_HOLD
        self._permit.shut.pop("reconciling", None)
        self._repetition.begin(self._takeover.committer)
        self._desk.work_queue()
        return On.AGREED

    def _may_repeat(self) -> bool:
        """Whether an order may have to be repeated under its own order id: then no other one goes before it is decided (R1)."""
        return self._rules.same_id and any(order.state is State.SENDING for order in self._book.open_orders())

    def _lost(self, session: int | None) -> None:
        """A reconciliation found its session gone: no news when the next one is up already."""
        if session is not None and self._permit.session == session:
            self._session_lost("the session ended while reconciling")

    def _check_epochs(self, result: Result) -> None:
        """R18: what a later look shows counts as what the first one shows."""
        try:
            self._takeover.claim_above(result.highest_epoch)
        except TermOver as over:
            self._takeover.end(str(over))
        if self._see_hold():
            self._takeover.end(self._takeover.must_hold or "")  # the next term finds the hold in the log

    def _see_hold(self) -> bool:
        """Shut the gate when a reconciliation wrote a hold of everything into the log (R18); whether it is news."""
        found = self._book.holds_everything
        if found is None or self._takeover.must_hold is not None:
            return False
        self._takeover.must_hold = str(found.broker.get("why"))
        self._permit.shut["holding"] = f"Everything is held until an operator looks: {self._takeover.must_hold}."
        return True

    def _decided(self, work: asyncio.Task[Result], session: int | None) -> None:
        """The second look behind the open gate has ended; where it said nothing, the contracts wait for the next one."""
        if work.cancelled():
            return
        if (error := work.exception()) is not None:
            if not isinstance(error, TermOver):
                logger.opt(exception=error).error("a defect in the second look")
            self.doubt(f"the second look did not end: {error}")
        elif work.result().verdict == "session_lost":
            self._lost(session)
        elif not work.result().gate_may_open:
            self.doubt(f"the second look decided nothing: {work.result().why}")
        else:
            self._check_epochs(work.result())
        phases = self._takeover.phases
        self._noting = asyncio.create_task(
            self._takeover.note_phases({"repaired": phases.repaired, "held": phases.held}), name="note the second look"
        )

    async def _reconcile(self, recent: bool = False, early: Early | None = None) -> Result:
        committer, session = self._takeover.committer, self._permit.session
        if committer is None or session is None:
            raise TermOver("there is no session to reconcile with")
        self._doubts.clear()
        behind, started = "reconciling" not in self._permit.shut, self._clock()
        deadline = max(self._rules.reconcile_deadline, WHOLE_DEADLINE if behind and not recent else 0.0)
        result = await self.reconciler.reconcile(
            committer, session, deadline=deadline, recent=recent, early=early,
            lists=self._lists(behind), at_most=self._rules.at_most(gate_open=behind),
        )  # fmt: skip
        self.last, self._reconciled_at = result, self._clock()
        if not recent:
            self._whole_due_at = self._clock() + max(WHOLE_EVERY, (self._clock() - started) / WHOLE_SHARE)
        self._takeover.phases.repaired += result.repaired
        self._takeover.phases.held += result.held
        if result.gate_may_open:
            self._desk.second_look = result.unwritten  # nothing is sent where something could not be written down
            self._desk.work_queue()
        # what the gate did not wait for (R24) the ledger must not wait for long; a link that is down says when it is back
        if result.gate_may_open and set(result.missing) - {LINK}:
            self.doubt(f"not everything came from the broker: {', '.join(result.missing)}")
        return result

    async def _reconcile_for_ever(self) -> None:
        while True:
            await asyncio.sleep(IDLE_TICK)
            since = self._clock() - self._reconciled_at
            listed = (
                0 if self._link_back else len(self._book.open_ids)
            )  # a gate waits for the one after the link's return
            due = since > self._rules.pause(listed, doubts=bool(self._doubts) or self._link_back)
            if self._permit.session is None or "reconciling" in self._permit.shut or not due:
                continue
            link_was_back, self._link_back, losses = self._link_back, False, self._link_losses
            session = self._permit.session
            try:
                result = await self._reconcile(recent=self._clock() < self._whole_due_at)
            except TermOver:
                continue
            except Exception as defect:  # noqa: BLE001 - the next look may well succeed, and without any the gate may stay shut
                logger.opt(exception=defect).error("a defect in the background's reconciliation")
                self._link_back = self._link_back or link_was_back
                self._reconciled_at = self._clock()
                continue
            self._check_epochs(result)
            if result.verdict == "session_lost":
                self._lost(session)
            elif link_was_back and self._link_losses != losses:
                continue  # lost again meanwhile: this says nothing of the link
            elif link_was_back and result.gate_may_open and self._takeover.committer is not None:
                self._open_after_link(self._takeover.committer)
            elif link_was_back:
                self.link_restored()  # not reconciled yet: once more, or the gate would stay shut

    def _open_after_link(self, committer: Committer) -> None:
        cancel_late(committer, self._desk)  # before the gate opens (R6)
        self._permit.shut.pop("link", None)
        self._repetition.tick(committer)

    async def reconcile_now(self) -> Result:
        """One reconciliation at somebody's wish. Raises TermOver without a session."""
        return await self._reconcile()

    async def look_now(self) -> Snapshot:
        """One whole snapshot at somebody's wish; nothing is written. Raises TermOver without a session."""
        deadline, lists = self._rules.reconcile_deadline, self._lists(gate_open=True)
        return await self.reconciler.look(self._session(), deadline=deadline, lists=lists)

    async def plan_now(self) -> Plan:
        """What the table says of one whole snapshot; nothing is written. Raises TermOver without a session."""
        deadline, lists = self._rules.reconcile_deadline, self._lists(gate_open=True)
        return await self.reconciler.dry_run(self._session(), deadline=deadline, lists=lists)

    def _lists(self, gate_open: bool) -> float:
        return self._rules.lists_take(len(self._book.orders), gate_open=gate_open)

    def _session(self) -> int:
        if self._permit.session is None:
            raise TermOver("there is no session to reconcile with")
        return self._permit.session

    # ---- the queue, and orders that nobody answers

    async def _tend_for_ever(self) -> None:
        while True:
            self.tick()
            await self._note_first_order()
            await self._remember()
            await self._rest()

    def tick(self) -> None:
        """What is done without waiting for anything; where a gate opens, nobody comes in between."""
        self.obey()
        self._obey_calendar()
        self._watch_answers()
        self._repetition.tick(self._takeover.committer)
        self._desk.work_queue()
        self._desk.cancels_to_write()

    async def _rest(self) -> None:
        """A tick while something waits; while nothing does, a longer one that a new order or a doubt cuts short."""
        if self._repetition.owed or self._book.queued or self._desk.unacknowledged or self._book.cancels_wanted:
            await asyncio.sleep(TICK)
            return
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_TICK):
                await self._wake.wait()

    async def _remember(self) -> None:
        if self._clock() - self._remembered_at > REMEMBER_EVERY:
            self._remembered_at = self._clock()
            self._remembering = asyncio.create_task(self._takeover.remember(), name="remember")

    def _obey_calendar(self) -> None:
        """The gate shuts to new orders before the gateway's own restart; cancels pass."""
        if self._clock() - self._calendar_read_at < CALENDAR_EVERY:
            return
        self._calendar_read_at = self._clock()
        if (sentence := self.calendar.near(utcnow())) is not None:
            self._permit.shut["calendar"] = sentence
        else:
            self._permit.shut.pop("calendar", None)

    def _watch_answers(self) -> None:
        """R5: the gate is shut while the oldest order is unanswered for too long, or bytes wait in the transport."""
        shut = self._permit.shut
        if self._broker.unsent_bytes:
            shut["backlog"] = "The gateway does not read: bytes wait in the transport's buffer."
        else:
            shut.pop("backlog", None)
        waiting = self._desk.unacknowledged
        now, since = self._clock(), min(waiting.values(), default=float("inf"))
        age = now - since
        if self._rules.owed(now, since, self._broker.listing_at) > self._rules.ack_deadline:
            self._broker.abort()  # our own session: what it may have delivered is judged as a dead one's
            self._session_lost(f"an order was not acknowledged for {age:.1f} s")
        elif age > self._rules.ack_timeout:
            shut["stalled"] = f"An order was not acknowledged for {self._rules.ack_timeout:g} s."
            self.doubt("an order is not acknowledged")
        else:
            shut.pop("stalled", None)
        if self._desk.cancels.unanswered(self._rules.ack_timeout):
            self.doubt("a cancel is not answered")

    async def _note_first_order(self) -> None:
        term, first = self._takeover.term, self._desk.first_write_at
        if term is not None and term.noted and not term.first_order_noted and first is not None:
            term.first_order_noted = True
            await self._takeover.note_phases({"first_order_ms": round(max(0.0, first - term.phases.leading) * 1000, 3)})
