"""The lease port of a replica without a pair: nobody else campaigns, so there is no etcd to ask.

What remains of a lease is what R12 wants of it: trust that the event loop renews by running. A loop that stood still beyond its
allowance loses it, and with it the term, as in a pair: what it did not notice meanwhile is found by a new epoch, a new session and
a reconciliation. One process per RUN_DIR (ha.single_file). All else, the two other fences first, is unchanged.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path

from engine.clock import Clock, boottime
from ha import etcd_runfile
from ha.lease import (
    MAX_LEASE_ID,
    EtcdContact,
    Gone,
    Grant,
    Held,
    LeaderRecord,
    LeaderSeen,
    LeaseTiming,
    Lost,
    OnChange,
    OnOutcome,
    OnStall,
    Outcome,
    Refused,
    StateSeen,
    Stored,
    Unknown,
    trust_until,
)
from ha.single_file import RunDir, Values

TICK = 0.1


@dataclass(slots=True)
class _Holding:
    record: LeaderRecord
    create_revision: int
    renewed_at: float
    ended: str | None = None  # why it is never trusted again
    reported: bool = False  # that it ended


class SingleLease:
    """`LeasePort` for one process. `run_dir` must exist; only one process at a time has it."""

    def __init__(self, run_dir: Path, timing: LeaseTiming | None = None, clock: Clock = boottime) -> None:
        self.on_outcome: OnOutcome | None = None
        self.on_change: OnChange | None = None
        self.on_stall: OnStall | None = None
        self._path, self._run_dir = run_dir, RunDir(run_dir)
        self._timing, self._clock = timing or LeaseTiming(), clock
        self._values = Values()
        self._writing = asyncio.Lock()
        self._problem: str | None = None
        self._holding: _Holding | None = None
        self._revision = 0
        self._ticked_at = self._told_at = clock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_tick: asyncio.TimerHandle | None = None

    # --------------------------------------------------------------------------------------------------- the port
    async def start(self) -> None:
        """See LeasePort. Raises RuntimeError with a sentence when another process has RUN_DIR."""
        self._values = self._run_dir.take()
        (self._path / etcd_runfile.NAME).unlink(missing_ok=True)  # of a pair's time: there is nothing to give back
        self._revision = self._values.revision
        self._loop = asyncio.get_running_loop()
        self._ticked_at = self._clock()
        self._tick()
        self._changed()

    async def stop(self) -> None:
        """See LeasePort."""
        self._loop, self._holding = None, None
        if self._next_tick is not None:
            self._next_tick.cancel()
        async with self._writing:
            self._run_dir.give_up()

    async def read(self) -> LeaderSeen | Unknown:
        """See LeasePort."""
        return self._seen()

    async def campaign(self, record: LeaderRecord) -> Grant | Lost | Unknown:
        """See LeasePort."""
        now = self._clock()
        if (seen := self._seen()).taken:
            return Lost(seen)
        lease_id = secrets.randbelow(MAX_LEASE_ID) + 1
        self._holding = _Holding(record.under(lease_id), self._next_revision(), now)
        self._told_at = now - self._timing.renew_every  # the next tick reports that it is held
        self._changed()
        return Grant(
            lease_id, self._holding.create_revision, self._values.place, self._timing.ttl, self._trusted_until(now)
        )

    async def take_over(self, expected: LeaderSeen, record: LeaderRecord) -> Grant | Lost | Unknown:  # noqa: ARG002
        """See LeasePort. There is nobody to take it from."""
        return Lost(self._seen())

    async def announce(self, record: LeaderRecord) -> Outcome:
        """See LeasePort."""
        outcome = await self.verify()
        if isinstance(outcome, Held) and self._holding is not None:
            self._holding.record = record.under(outcome.lease_id)
            self._next_revision()
            self._changed()
        return outcome

    async def verify(self) -> Outcome:
        """See LeasePort."""
        now = self._clock()
        self._expire(now)
        if self._holding is None:
            return Gone("nothing is held")
        if self.loop_stalled_for(now) > self._timing.loop_allowance:
            self._give_up(self.loop_stalled_for(now))  # asked before the tick that would have noticed
        if self._holding.ended is not None:
            return Gone(self._holding.ended)
        return self._renewed(self._holding, now)

    async def release(self) -> Gone | Unknown:
        """See LeasePort."""
        if self._holding is None:
            return Gone("nothing was held")
        self._drop()
        return Gone("released")

    async def get_state(self, key: str) -> StateSeen | Unknown:
        """See LeasePort."""
        value, revision = self._values.values.get(key, (None, 0))
        return StateSeen(value, revision)

    async def put_state(
        self, key: str, value: str, *, expect: int | None = None, fenced: bool = True
    ) -> Stored | Refused | Unknown:
        """See LeasePort."""
        async with self._writing:
            present, revision = self._values.values.get(key, (None, 0))
            if fenced and (self._holding is None or self._holding.ended is not None):
                return Refused("nothing is held")
            if expect is not None and expect != revision:
                return Refused(f"{key} is at revision {revision}, not at {expect}")
            if present == value and expect is None:
                return Stored(revision)  # what is kept again and again while nothing changes costs no disk
            wanted = self._values.with_value(key, value, self._next_revision())
            try:
                await asyncio.to_thread(self._run_dir.keep, wanted)
            except OSError as error:
                self._problem = f"RUN_DIR={self._path} cannot be written: {error.strerror}"
                return Unknown(self._problem)
            self._values, self._problem = wanted, None
            return Stored(wanted.revision)

    def trust_left(self, now: float) -> float:
        """See LeasePort."""
        holding = self._holding
        if holding is None or holding.ended is not None:
            return 0.0
        return max(0.0, self._trusted_until(holding.renewed_at) - now)

    def loop_stalled_for(self, now: float) -> float:
        """See LeasePort."""
        return max(0.0, now - self._ticked_at)

    def contact(self) -> EtcdContact:
        """See LeasePort. No endpoint is how a replica without a pair is known."""
        return EtcdContact(0, "", self._ticked_at, self._problem, self._ticked_at)

    # ---------------------------------------------------------------------------------------------------- the loop
    def _tick(self) -> None:
        now = self._clock()
        gap, self._ticked_at = now - self._ticked_at, now
        if gap > self._timing.loop_allowance:  # R12
            self._give_up(gap)
            if self.on_stall is not None:
                self.on_stall(gap)
        self._expire(now)
        self._tell(now)
        if self._loop is not None:
            self._next_tick = self._loop.call_later(TICK, self._tick)

    def _tell(self, now: float) -> None:
        """Renew what is held, and report it as often as a pair's lease does; report once that it ended."""
        holding = self._holding
        if holding is None or holding.reported:
            return
        if holding.ended is not None:
            holding.reported = True
            outcome: Outcome = Gone(holding.ended)
        else:
            outcome = self._renewed(holding, now)
            if now - self._told_at < self._timing.renew_every:
                return
        self._told_at = now
        if self.on_outcome is not None:
            self.on_outcome(outcome)

    def _renewed(self, holding: _Holding, now: float) -> Held:
        holding.renewed_at = now
        return Held(holding.record.lease_id, self._timing.ttl, self._trusted_until(now))

    def _trusted_until(self, renewed_at: float) -> float:
        return trust_until(renewed_at, self._timing.ttl, self._timing.margin)

    def _give_up(self, stalled: float) -> None:
        if self._holding is not None and self._holding.ended is None:
            self._holding.ended = f"the event loop stood still for {stalled:.2f} s"

    def _expire(self, now: float) -> None:
        """What nobody renewed for a whole ttl is over, as in etcd."""
        holding = self._holding
        if holding is None or now - holding.renewed_at < self._timing.ttl:
            return
        holding.ended = holding.ended or "it ran out"
        self._tell(now)
        self._drop()

    def _drop(self) -> None:
        self._holding = None
        self._next_revision()
        self._changed()

    def _next_revision(self) -> int:
        self._revision += 1
        return self._revision

    def _seen(self) -> LeaderSeen:
        self._expire(self._clock())
        holding = self._holding
        if holding is None:
            return LeaderSeen(None, 0, 0, self._revision, self._values.place)
        record = holding.record
        return LeaderSeen(record, record.lease_id, holding.create_revision, self._revision, self._values.place)

    def _changed(self) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._tell_change, self._seen())

    def _tell_change(self, seen: LeaderSeen) -> None:
        if self._loop is not None and self.on_change is not None:
            self.on_change(seen)
