"""One replica: events go into a queue, the role table decides, the shell performs. Read `role.py` first.

What must not wait for the queue is done where it happens: when a term ends the gate is shut and the session aborted in the
same call that learned of it, then the table is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from loguru import logger

from engine import codes, failpoint
from engine.book import Book
from engine.broker import Broker, BrokerError, DecoderLoss, Fact, SessionClosed, Throttled
from engine.clock import Clock, boottime
from engine.inbound import Inbound
from engine.permit import Permit
from engine.projection import Projector
from engine.submit import Desk
from ha.holding import until_resolved
from ha.lease import Gone, LeaderRecord, LeaderSeen, LeasePort, Outcome, Unknown
from ha.log import bind_state
from ha.phase import BackOff, TermOver, bounded
from ha.role import HAS_EPOCH, IN_TERM, TABLE, Act, On, State, after
from ha.startup import NotFit
from ha.tail import Tail
from ha.takeover import Takeover
from ha.tend import Tender
from ha.term import Phases

_OF_ONE_SESSION = ("throttled", "backlog", "stalled")
"""Reasons for a shut gate that end with the session: nobody would tell of their end any more."""


class Node:
    """The replica's state and its one event queue. `start`, then `stop`; everything between follows the table."""

    def __init__(
        self,
        book: Book,
        permit: Permit,
        desk: Desk,
        inbound: Inbound,
        broker: Broker,
        lease: LeasePort,
        tail: Tail,
        me: LeaderRecord,
        make_takeover: Callable[[Callable[[str], None]], Takeover],
        make_tender: Callable[[Takeover, Callable[[str], None]], Tender],
        make_projector: Callable[[int], Projector],
        *,
        lag_limit: float,
        stop_without_etcd: bool,
        phase_deadline: float = 20.0,
        clock: Clock = boottime,
    ) -> None:
        self.book, self.permit, self.desk, self.inbound = book, permit, desk, inbound
        self.broker, self.lease, self.tail, self.me = broker, lease, tail, me
        self.takeover = make_takeover(self.end_term)
        self.tender = make_tender(self.takeover, self.session_lost)
        self._make_projector = make_projector
        self._heard_at: Callable[[], float] = lambda: float("-inf")
        self.on_led: Callable[[str, dict[str, float | int | None]], None] = lambda _kind, _phases: None
        self._projector: Projector | None = None
        self._lag_limit, self._stop_without_etcd, self._clock = lag_limit, stop_without_etcd, clock
        self._phase_deadline, self._back_off = phase_deadline, BackOff()
        self.state = State.STANDBY
        self.seen: LeaderSeen | None = None
        self.etcd_problem: str | None = "etcd was not asked yet"
        self._other_led: str | None = None  # name of the other replica that was seen leading
        self._suspect: LeaderSeen | None = None
        self._last_sign: float | None = None
        self._seen_campaigning: LeaderSeen | None = None  # the leader key when the last campaign began
        self._handed_over: str | None = None  # why the leader hands over to this replica, from its own mouth
        self._stand_back_until = self._backed_off_until = float("-inf")  # after a hand-over; after a failed term (R33)
        self._would_have: str | None = None
        self.led_since = float("-inf")  # when this replica last began to lead
        self._queue: asyncio.Queue[tuple[On, str, object]] = asyncio.Queue()
        self._phase: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._stopping = False
        self._defect: BaseException | None = None
        self._standby_again = asyncio.Event()

    @property
    def role(self) -> str:
        """`leader` from the claim's commit on, `standby` otherwise."""
        return "leader" if self.state in HAS_EPOCH else "standby"

    @property
    def control(self) -> dict[str, Any]:
        """Operators' wishes, as this replica last read them."""
        committer = self.takeover.committer
        return committer.control if committer is not None else self.tail.control

    @property
    def paused(self) -> bool:
        """Whether automatic failover is paused (R34)."""
        return "paused" in self.control

    # ---- life

    async def start(self, unless: Callable[[], Awaitable[str | None]] | None = None) -> None:
        """Tail, watch the leader key, and follow the table. Raises NotFit with what `unless` says once etcd can be asked."""
        self.lease.on_change, self.lease.on_outcome = self._leader_changed, self._lease_said
        self.lease.on_stall = lambda seconds: self.end_term(f"the event loop stood still for {seconds:.2f} s (R12)")
        self.tail.start()
        await self.lease.start()
        if unless is not None and (sentence := await unless()) is not None:
            raise NotFit(sentence)
        self._tasks = [
            asyncio.create_task(self._follow_the_table(), name="node"),
            asyncio.create_task(self._look_for_work(), name="look"),
        ]

    async def stop(self) -> None:
        """Step down if need be, then end everything."""
        self._stopping = True
        if self.state in IN_TERM:
            self._standby_again.clear()
            self.end_term("told to stop")
            await self._standby_again.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.tail.close()
        await self.lease.stop()

    def failed(self) -> BaseException | None:
        """What ended one of the node's own tasks: a defect, after which the process must not go on."""
        if self._defect is not None:
            return self._defect
        ended = (task.exception() for task in self._tasks if task.done() and not task.cancelled())
        return next(filter(None, ended), None)

    # ---- what is learned elsewhere

    def end_term(self, reason: str) -> None:
        """End the term now: gate and session first, synchronously; then the table. Nothing without a term."""
        if self.state in IN_TERM:
            self.takeover.shut()
            self._queue.put_nowait((On.ENDED, reason, None))

    def session_lost(self, reason: str) -> None:
        """The broker session is gone, or was aborted by ourselves: its licences are dead (R2)."""
        if self.permit.session is None:
            return
        self.permit.session = None
        for why in _OF_ONE_SESSION:
            self.permit.shut.pop(why, None)
        self.desk.session_lost()
        self._queue.put_nowait((On.SESSION_LOST, reason, None))

    def take(self, fact: Fact) -> None:
        """The broker's sink: facts about the session and the link are ours, the rest is the ledger's."""
        match fact:
            case SessionClosed():
                self.session_lost(fact.reason)
            case Throttled():
                self._shut("throttled", "ib_async queues messages instead of sending them." if fact.on else None)
            case DecoderLoss():
                self.inbound.losses += 1
                self.tender.doubt(f"a message of the gateway could not be decoded: {fact.text}")
            case BrokerError(code=codes.LINK_LOST):
                self.tender.link_lost()
            case BrokerError(code=code) if code in codes.LINK_RESTORED:
                self.tender.link_restored()
            case _:
                self.inbound.take(fact)

    def _shut(self, name: str, sentence: str | None) -> None:
        if sentence is None:
            self.permit.shut.pop(name, None)
        else:
            self.permit.shut[name] = sentence

    def _leader_changed(self, seen: LeaderSeen) -> None:
        same, self.seen, self.etcd_problem = self.seen is not None and seen.same_key(self.seen), seen, None
        if seen.record is not None and seen.record.instance != self.me.instance:
            self._other_led = seen.record.name
            self._stand_back_until = float("-inf")  # the other one went first
            if not same:
                self._handed_over = None  # what an earlier leader said is over
        self._campaign_if_free()

    def _lease_said(self, outcome: Outcome) -> None:
        if isinstance(outcome, Gone):
            self.end_term(f"the lease is gone: {outcome.reason}")
        elif isinstance(outcome, Unknown):
            self.etcd_problem = outcome.reason
            if self._stop_without_etcd and self.lease.trust_left(self._clock()) <= 0:
                self.end_term(f"etcd is away and ON_ETCD_LOSS is stop: {outcome.reason}")
        else:
            self.etcd_problem = None

    def listen(self, heard_at: Callable[[], float]) -> None:
        """Where to ask when the leader was last heard on the replicas' own connection."""
        self._heard_at = heard_at

    def suspect(self, silent: LeaderSeen, last_sign: float) -> None:
        """The leader gave no sign on both ways for too long (R30); ignored where this replica may not act."""
        name = silent.record.name if silent.record is not None else "the leader"
        if (why := self.unfit()) is not None or self._stopping:
            self._say_once(f"{name} is silent, but this replica cannot take over: {why}")
        elif self.paused:
            self._say_once(f"{name} is silent; automatic failover is paused, else this replica would take over now")
        elif self.state is State.STANDBY and self.takeover.may_suspect():
            self._suspect, self._last_sign = silent, last_sign
            self._queue.put_nowait((On.SUSPECTED, f"{name} gave no sign for {self._clock() - last_sign:.2f} s", None))

    def handed_over(self, reason: str) -> None:
        """The leader says that it hands over to this replica."""
        self._handed_over = reason

    def hand_over(self, reason: str, stand_back: float) -> None:
        """End the term on purpose and let the other replica go first for `stand_back` seconds."""
        self._stand_back_until = self._clock() + stand_back
        self.end_term(reason)

    def _say_once(self, sentence: str) -> None:
        if sentence != self._would_have:
            self._would_have = sentence
            logger.warning("{}", sentence)

    # ---- campaigning

    def unfit(self) -> str | None:
        """Why this replica may not campaign now, or None."""
        if not self.tail.reachable:
            return "PostgreSQL cannot be reached from here"
        if self.tail.unfit is not None:
            return self.tail.unfit
        if self.tail.digest_differs is not None:
            return self.tail.digest_differs
        lag = self.tail.lag(self._clock())
        return None if lag <= self._lag_limit else f"the book is {lag:.1f} s behind the log"

    def _campaign_if_free(self) -> None:
        free = self.seen is not None and not self.seen.taken
        waits = self._clock() < max(self._stand_back_until, self._backed_off_until)
        if not free or waits or self.state is not State.STANDBY or self._stopping:
            return
        if (why := self.unfit()) is not None:
            self._say_once(f"there is no leader, but this replica cannot take over: {why}")
        elif self.paused and self._handed_over is None and self.tail.holder not in (None, self.me.name):
            self._say_once(
                f"there is no leader; in the pause only {self.tail.holder} may campaign, else this replica would"
            )
        else:
            self._queue.put_nowait((On.LEADERLESS, "", None))

    async def _look_for_work(self) -> None:
        """What no callback tells: a lag that is over, an etcd that answers again."""
        while True:
            await asyncio.sleep(0.2)
            if self.state is not State.STANDBY:
                continue
            if self.etcd_problem is not None:
                answer = await self.lease.read()
                if isinstance(answer, LeaderSeen):
                    self._leader_changed(answer)
                else:
                    self.etcd_problem = answer.reason
            else:
                self._campaign_if_free()

    # ---- the table

    async def _follow_the_table(self) -> None:
        while True:
            event, reason, source = await self._queue.get()
            if source is not None and source is not self._phase:
                continue  # a phase that was ended says nothing any more
            if source is None and (self.state, event) not in TABLE:
                continue  # told twice, or too late: the state says more than the event
            row = after(self.state, event)
            logger.info("{} -> {}: {}{}", self.state, row.to, row.comment, f" ({reason})" if reason else "")
            self.state = row.to
            bind_state(self.role, self.permit.epoch or self.tail.epoch, self.state)
            if self.takeover.committer is not None:
                self.takeover.committer.state = self.state
            await self._end_phase()
            self._phase = asyncio.create_task(self._run_phase(row.act), name=row.act)

    async def _end_phase(self) -> None:
        phase, self._phase = self._phase, None
        if phase is not None and not phase.done():
            phase.cancel()
            await asyncio.wait({phase})

    async def _run_phase(self, act: Act) -> None:
        try:
            event = await bounded(act, self._perform(act), self._phase_deadline)
        except TermOver as over:
            self._failed(str(over))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a phase meets, the gate is shut and the lease given back
            logger.exception("a defect in phase {}", act)
            if act is Act.STEP_DOWN:  # nobody else would end this term: the process does, and its supervisor
                self._defect = error
            self._failed(f"a defect in phase {act}: {error}")
        else:
            if event is not None:
                self._queue.put_nowait((event, "", asyncio.current_task()))

    def _failed(self, why: str) -> None:
        """The term ends before its time; the next one is not tried at once (R33)."""
        self._backed_off_until = self._clock() + self._back_off.pause()
        self.takeover.shut()
        self._queue.put_nowait((On.ENDED, why, None))

    def _perform(self, act: Act) -> Coroutine[Any, Any, On | None]:
        return {
            Act.CAMPAIGN: self._campaign,
            Act.TAKE_OVER: self._take_over,
            Act.CLAIM: self._claim,
            Act.CONNECT: self.takeover.connect,
            Act.RECONCILE: self._reconcile,
            Act.LEAD: self._lead,
            Act.HOLD: self._hold,
            Act.STEP_DOWN: self._step_down,
            Act.TAIL: self._tail_again,
        }[act]()

    async def _campaign(self) -> On:
        other, handed_over, self._handed_over = self._other_led, self._handed_over, None
        last_sign = max(self.tail.beat_seen_at, self._heard_at())
        phases = Phases.of_campaign(other, handed_over, last_sign, self._clock())
        self._seen_campaigning = self.seen
        return await self.takeover.campaign(phases)

    async def _take_over(self) -> On:
        silent, self._suspect, self._seen_campaigning = self._suspect, None, self.seen
        if silent is None or silent.record is None:
            return On.LOST
        phases = Phases(
            "failover", f"{silent.record.name} was silent", silent.record.name, self._last_sign, self._clock()
        )
        return await self.takeover.take_over(phases, silent)

    async def _claim(self) -> On:
        event = await self.takeover.claim()
        term = self.takeover.term
        assert term is not None
        bind_state("leader", term.epoch, self.state)
        self._projector = self._make_projector(term.epoch)
        self._projector.start()
        self.tender.begin()
        self._would_have = None
        self._announcing = asyncio.create_task(self._announce(term.epoch), name="announce")
        return event

    async def _announce(self, epoch: int) -> None:
        """Name the epoch in the leader key, so that clients are redirected here (R35)."""
        await self.lease.announce(replace(self.me, epoch=epoch))

    async def _reconcile(self) -> On | None:
        return await self.tender.reconcile_session()

    async def _lead(self) -> None:
        failpoint.hit("takeover.leading")
        term = self.takeover.term
        if term is not None and not term.noted:
            self._back_off.led()
            term.phases.leading, term.noted = self._clock(), True
            self.led_since = term.phases.leading
            phases = term.phases.milliseconds()
            self.on_led(term.phases.kind, phases)
            await self.takeover.note_phases(phases | {"digest": f"{self.book.digest:016x}"})

    async def _hold(self) -> On:
        """Open one break that says why, and wait until an operator resolves it (R14, R16, R18)."""
        why = self.takeover.must_hold or "everything is held"
        logger.critical("holding everything: {}", why)
        await until_resolved(self.book, await self.takeover.hold(why))  # and any other that holds everything
        await self.takeover.forget_hold()
        self.permit.shut.pop("holding", None)
        return On.RELEASED_HOLD

    async def _step_down(self) -> On:
        self.tender.end()
        if self._projector is not None:
            await self._projector.stop()
            self._projector = None
        self._other_led = None
        await self.takeover.give_back()
        return On.QUIET

    async def _tail_again(self) -> None:
        bind_state("standby", self.tail.epoch, self.state)
        if not self._stopping and not self.tail.running:
            self.tail.start()
        elif self.seen is not self._seen_campaigning:
            self._campaign_if_free()  # the key was left while this replica campaigned for it in vain
        self._standby_again.set()
