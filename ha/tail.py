"""The standby's eye: the event log tailed into the book, and the leader's proofs of epoch watched.

A notification is a hint to read; only reading by `seq` tells (R21). What is read here also says whether this replica could
take over now: it must be in touch with PostgreSQL, near the head, and able to read every event (R22).
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from engine.book import Book, Hole, UnknownKind
from engine.clock import Clock, boottime, utcnow
from engine.digest import differs, written
from engine.errors import IllegalTransition
from engine.events import LEDGER_LEVEL, Event, Kind, event_of
from engine.store import Connection, Row, StoreError, tail_name
from ha.beginning import NoBeginning, begin, log_begins

PULSE_EVERY = 0.25
MOST_OFF = 0.5
"""Seconds by which a leader's clock may differ from the database's (R8)."""
TOGETHER = 0.005
"""Seconds from one hint to the next that is looked at: what was committed meanwhile is read at once."""
_BATCH = 500
_LAST_READ = 0.5  # seconds


class Tail:
    """Keeps `book` at the head of the log while it runs. `connection` is shared with whoever claims next."""

    def __init__(self, book: Book, url: str, replica: str, clock: Clock = boottime) -> None:
        self._book, self._clock, self._replica = book, clock, replica
        self.connection = Connection(url, tail_name(replica))
        self._listener = Connection(url, f"adapter-listen:{replica}")
        self._wake = asyncio.Event()
        self._reading = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.caught_up_at = float("-inf")  # when the book was last known to stand at the head
        self.reachable = False
        self.problem: str | None = None  # why this replica must not campaign, whatever else holds
        self.epoch = 0  # the highest epoch seen
        self.holder: str | None = None
        self.beat = -1
        self.beat_seen_at = float("-inf")  # when a fresh proof of the leader was first read (R12)
        self._cannot_begin = False  # `problem` is that there is no beginning, which an operator mends
        self.digest_differs: str | None = None
        self.pulsed_at = float("-inf")  # start of the last pulse that was answered
        self.clock_off: str | None = None  # why this replica's clock keeps it from leading (R8)
        self.control: dict[str, Any] = {}  # operators' wishes
        self.place: tuple[str, str] | None = None  # the server's identity and timeline
        self.changed = (
            False  # whether the database was seen to change under this replica since its book was last reconciled (R18)
        )
        self._read_before = 0  # the log's end when it was last found to have gone back: up to there it was read before
        self.seen_seq = 0  # the last event that this replica has ever seen, whatever the database says now (R18)
        self.etcd_cluster_id: str | None = None  # of the last term (R32)
        self.level = LEDGER_LEVEL  # the ledger's, as of the last pulse (R22)

    def start(self) -> None:
        """Begin to tail, once more after a term too."""
        self.connection.rename(tail_name(self._replica))
        self.reachable = False
        self._tasks = [
            asyncio.create_task(self._tail_for_ever(), name="tail"),
            asyncio.create_task(self._listen_for_ever(), name="listen"),
        ]

    async def stop(self) -> None:
        """Stand still; the connection stays open for the claim, so a read under way gets a moment to end by itself."""
        between_reads = await self._between_reads()
        try:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        finally:
            if between_reads:
                self._reading.release()
        await self._listener.close()

    async def _between_reads(self) -> bool:
        """Hold reading off; False when it did not pause in time. A statement that is cancelled closes its connection."""
        try:
            async with asyncio.timeout(_LAST_READ):
                return await self._reading.acquire()
        except TimeoutError:
            return False

    @property
    def running(self) -> bool:
        """Whether it tails now."""
        return bool(self._tasks)

    async def close(self) -> None:
        """Stop and give the connections back."""
        await self.stop()
        await self.connection.close()

    def lag(self, now: float) -> float:
        """Seconds since the book was last known to stand at the head of the log."""
        return now - self.caught_up_at

    def saw(self, seq: int) -> None:
        """Somebody who proves its epoch says that the log reaches to `seq`: a database that lacks it went back in time (R18)."""
        self.seen_seq = max(self.seen_seq, seq)

    # ---- reading

    async def catch_up(self) -> Row:
        """Read to the head on this connection, now. Returns the pulse (epoch, proof, head).

        Raises StoreError, or what the fold raises for an event that cannot be folded.
        """
        async with self._reading:  # two readers would fold the same event twice
            while True:
                started = self._clock()
                [pulse] = await self.connection.run("pulse")
                self._see(pulse, started)
                self._book.projected_to(pulse["projected"])
                if pulse["head"] < self._book.seq:
                    self._went_back(
                        f"it ends at event {pulse['head']}, this replica has seen {self._book.seq}", pulse["head"]
                    )
                elif pulse["head"] == self._book.seq:
                    self.caught_up_at = started
                    return pulse
                if self._book.seq == 0:
                    await begin(self._book, self.connection, pulse["head"])
                    if self._cannot_begin:
                        self.problem, self._cannot_begin = None, False
                await self._read()

    async def _follow(self) -> None:
        """Read what a hint told of, without a pulse: the leader's proof is read at its own pace (R12)."""
        async with self._reading:
            read_at = await self._read()
            if read_at is not None:  # nothing to read would also be what a log that became shorter looks like (R18)
                self.caught_up_at = read_at

    async def _read(self) -> float | None:
        """Fold what is behind the book; when its end was asked for, None when there was nothing."""
        before = self._book.seq
        while True:
            started = self._clock()
            rows = await self.connection.run("events_after", {"after": self._book.seq, "limit": _BATCH})
            for row in rows:
                self._book.apply(event := event_of(row))
                if event.seq > self._read_before and self._ends_a_hold(event):
                    self.seen_seq = 0  # an operator has looked: the log goes on from where it stands
            self.seen_seq = max(self.seen_seq, self._book.seq)
            if len(rows) < _BATCH:
                return started if self._book.seq > before else None

    def _see(self, pulse: Row, now: float) -> None:
        self.reachable, self.pulsed_at, self.control = True, now, pulse["control"] or {}
        self._compare_clocks(pulse["now"], self._clock() - now)
        self.etcd_cluster_id, self.level = pulse["etcd_cluster_id"], pulse["level"]
        if self.level > LEDGER_LEVEL and self.problem is None:  # it will hold what this version cannot read
            self.problem = level_sentence(self.level)
            logger.error("{}", self.problem)
        place = (pulse["system"], pulse["timeline"])
        if self.place not in (None, place):
            self._went_back(f"its identity and timeline were {self.place} and are {place}", pulse["head"])
        self.place = place
        self.epoch, self.holder = max(self.epoch, pulse["epoch"]), pulse["name"]
        if pulse["beat"] != self.beat:
            self.beat, self.beat_seen_at = pulse["beat"], now
        ours = self._book.digest_at(pulse["proof_seq"])
        if ours is not None and pulse["proof_seq"] > 0 and differs(ours, pulse["digest"]):
            self.digest_differs = (
                f"at event {pulse['proof_seq']} this book's digest is {written(ours)}, the leader's {pulse['digest']}"
            )

    def _compare_clocks(self, theirs: datetime, trip: float) -> None:
        """R8: the database read its clock at some moment of this round trip; only what is off for certain counts."""
        ours = utcnow()
        early, late = (ours - timedelta(seconds=trip) - theirs).total_seconds(), (theirs - ours).total_seconds()
        off = max(early, late)
        self.clock_off = None if off <= MOST_OFF else (
            f"this host's clock is {off:.1f} s {'ahead of' if early > late else 'behind'} the database's; set the clocks (NTP)"
        )  # fmt: skip

    @property
    def unfit(self) -> str | None:
        """Why this replica must not lead by what the tail knows, None when nothing keeps it."""
        return self.problem or self.clock_off

    def _ends_a_hold(self, event: Event) -> bool:
        """Whether an operator has answered a break that held everything."""
        return event.kind == Kind.BREAK_RESOLVED and self._book.breaks[event.payload["id"]].kind == "everything"

    def _went_back(self, how: str, head: int) -> None:
        """R18: the database may lack what was seen. The book is dropped and read anew; what was seen is remembered."""
        logger.critical("the database is not what it was: {}; reading it anew", how)
        self.seen_seq, self._read_before = max(self.seen_seq, self._book.seq), head
        self.changed = True
        self._book.reset()
        self.digest_differs = None

    # ---- the tasks

    async def _tail_for_ever(self) -> None:
        while True:
            self._wake.clear()  # a hint that comes while it reads counts for the next round
            wait = PULSE_EVERY
            try:
                if not self.connection.is_open:
                    await self.connection.open()
                if self._pulse_due_in() > 0.0:
                    await self._follow()
                    wait = self._pulse_due_in()
                else:
                    await self.catch_up()
            except StoreError as error:
                if self.reachable:
                    logger.warning("PostgreSQL is away: {}", error)
                self.reachable = False
            except Hole as error:
                logger.warning("reading the log again: {}", error)  # R21
                await self._behind_the_archive()
            except NoBeginning as error:
                if self.problem is None:
                    logger.error("{}", error)
                    self.problem, self._cannot_begin = str(error), True
            except (UnknownKind, IllegalTransition, ValueError, KeyError) as error:
                if self.problem is None:
                    logger.error("the log cannot be folded: {}", error)
                self.problem = str(error)
            with contextlib.suppress(
                TimeoutError
            ):  # `wait_for` would swallow a cancel that meets the hint (Python 3.11)
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def _pulse_due_in(self) -> float:
        """Seconds for which a hint is answered without one; 0 where the next look has to be a whole one."""
        if not self.reachable or self.problem is not None or self._book.seq == 0:
            return 0.0
        return max(0.0, self.pulsed_at + PULSE_EVERY - self._clock())

    async def _behind_the_archive(self) -> None:
        """What this replica would read next has left the log meanwhile: begin anew, from a checkpoint."""
        with contextlib.suppress(StoreError):
            if self._book.seq + 1 < await log_begins(self.connection):
                self._book.reset()

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listener.open()
                async for _ in self._listener.notifications("ledger"):
                    self._wake.set()
                    await asyncio.sleep(TOGETHER)
            except StoreError:
                await asyncio.sleep(PULSE_EVERY)  # the tail reads by itself meanwhile


def level_sentence(level: int) -> str:
    """R22: why a replica of this version must not join a ledger of a higher level."""
    return f"The ledger is at level {level}, this version reads up to {LEDGER_LEVEL}; install the newer version."
