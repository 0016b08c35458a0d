"""The thread that holds the lease: it renews, reads the key, and carries out what the event loop asks for.

It has the only connection that writes. It renews only while the event loop is alive (R12): a process that hangs must
lose the lease.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine import failpoint
from engine.clock import Clock
from ha.etcd_calls import Calls
from ha.etcd_claim import revoke
from ha.etcd_members import EtcdError
from ha.etcd_sight import Sight
from ha.lease import Gone, Grant, Held, LeaderSeen, LeaseTiming, Outcome, Unknown, trust_until

LEAST_LIMIT = 0.05


class Surroundings(Protocol):
    """What the keeper needs to know of the process, and what it tells it, on the keeper's thread."""

    def loop_stalled_for(self, now: float) -> float:
        """Seconds since the event loop last ran."""

    def outcome(self, outcome: Outcome) -> None:
        """A renewal ended so."""

    def in_touch(self, yes: bool) -> None:
        """The last beat was answered, or not."""

    def idle(self) -> None:
        """Nothing is held; time to prepare."""


@dataclass(frozen=True, slots=True)
class Job:
    """Work for the keeper's thread; `refuse` is called instead, with a reason, when the thread has ended."""

    run: Callable[[], None]
    refuse: Callable[[str], None]


@dataclass(slots=True)
class Holding:
    """The lease that is ours. Once `ended` says why, it is never trusted or renewed again."""

    lease_id: int
    create_revision: int
    ttl: int
    trusted_until: float
    ended: str | None = None
    reported: bool = False  # that it ended
    to_revoke: bool = False  # a release is not confirmed yet


class Keeper:
    """The thread, its queue, and what is held. The methods of the first part may be called from any thread."""

    def __init__(
        self, calls: Calls, sight: Sight, surroundings: Surroundings, *, key: str, timing: LeaseTiming, clock: Clock
    ) -> None:
        self.calls = calls
        self.sight = sight
        self.key = key
        self.timing = timing
        self._clock = clock
        self.holding: Holding | None = None
        self.answered_at = 0.0
        self.seen_at = 0.0
        self._around = surroundings
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._due = 0.0
        self._stopping = False
        self._closed = False
        self._door = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    # ------------------------------------------------------------------------------------------------- any thread
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have the job done on the keeper's thread, or refused."""
        with self._door:
            if not self._closed:
                self._jobs.put(job)
                return
        job.refuse("the renewing thread has ended")

    def read_soon(self) -> None:
        """Have the key read (or the lease renewed) now instead of at the next beat."""
        self.submit(Job(self.beat_now, lambda _: None))

    def notice(self, state: LeaderSeen) -> None:
        """A watch told of a change. It proves nothing about our lease by itself, and is reason enough to ask."""
        self.sight.event(state)
        holding = self.holding
        if holding is not None and state.lease_id != holding.lease_id:
            self.read_soon()

    def stop(self) -> None:
        """Release what is held and end the thread. Blocks for two ttl when etcd is deaf, and for the command before."""
        self.forsake()
        self.submit(Job(self._stop, lambda _: None))
        if self._thread.ident is not None:
            self._thread.join()

    def give_up(self, reason: str) -> None:
        """Never trust or renew what is held again. It stays ours in etcd until it is released or runs out."""
        holding = self.holding
        if holding is not None and holding.ended is None:
            holding.ended = reason
            self.read_soon()

    def forsake(self) -> None:
        """A release was asked for: from this moment on nothing is trusted or renewed, and no outcome is reported."""
        holding = self.holding
        if holding is not None:
            holding.reported = True
            holding.ended = holding.ended or "released"

    def trust_left(self, now: float) -> float:
        """Seconds of trust in what is held."""
        holding = self.holding
        if holding is None or holding.ended is not None:
            return 0.0
        return max(0.0, holding.trusted_until - now)

    # ------------------------------------------------------------------------------------------ the keeper's thread
    def clock(self) -> float:
        """The time; also the sign that the thread comes round, which each attempt at a member gives."""
        self.seen_at = now = self._clock()
        return now

    def beat_now(self) -> None:
        """The next beat is due."""
        self._due = 0.0

    def hold(self, grant: Grant) -> None:
        """Begin to renew what was won. The next beat is due at once: it proves the lease and shows the key."""
        self.holding = Holding(grant.lease_id, grant.create_revision, grant.ttl, grant.trusted_until)
        self.beat_now()

    def look(self, limit: float) -> LeaderSeen:
        """Read the key, linearizably, one attempt. Raises EtcdError."""
        known_before, began = self.sight.revision, self.clock()
        state = self.calls.read(self.key, limit)
        self.answered_at = began
        self.sight.read(state, known_before=known_before)
        return state

    def renew(self, holding: Holding) -> Outcome:
        """One attempt to renew, and to see that the key carries the lease; an older server may call a revoked lease
        renewed. The outcome is reported."""
        failpoint.hit("lease.renew")
        now = self.clock()
        stalled = self._around.loop_stalled_for(now)
        if stalled > self.timing.loop_allowance and holding.ended is None:
            holding.ended = f"the event loop stood still for {stalled:.2f} s"
        outcome = self._attempt(holding, now)
        if holding.ended is not None:  # given up by the loop while etcd was asked
            outcome = Gone(holding.ended)
        if not holding.reported:
            self._around.outcome(outcome)
        if isinstance(outcome, Gone):
            holding.ended, holding.reported = outcome.reason, True
        return outcome

    def release(self, holding: Holding, *, within: float) -> Gone | Unknown:
        """Revoke what is held, within so many seconds. When that is not confirmed, each beat tries again."""
        holding.ended = holding.ended or "released"
        holding.reported = holding.to_revoke = True
        answer = revoke(
            self.calls,
            holding.lease_id,
            limit=self.timing.call_limit,
            within=within,
            clock=self.clock,
        )
        if isinstance(answer, Gone) and self.holding is holding:
            self.holding = None
        return answer

    def _attempt(self, holding: Holding, now: float) -> Outcome:
        if holding.ended is not None:
            return Gone(holding.ended)
        left = holding.trusted_until - now
        limit = self.timing.call_limit
        if left > 0:
            limit = max(LEAST_LIMIT, min(limit, left))
        try:
            ttl = self.calls.renew(holding.lease_id, limit)
            if ttl <= 0:
                return Gone("etcd does not know the lease any more")
            state = self.look(limit - (self.clock() - now))
        except EtcdError as error:
            return Unknown(error.reason)
        if (state.lease_id, state.create_revision) != (holding.lease_id, holding.create_revision):
            return Gone("the leader key carries another lease" if state.taken else "the leader key is gone")
        holding.trusted_until = trust_until(now, ttl, self.timing.margin)
        return Held(holding.lease_id, ttl, holding.trusted_until)

    def _run(self) -> None:
        try:
            while not self._stopping:
                now = self.clock()
                if now >= self._due:
                    self._due = self._beat(now)
                try:
                    job = self._jobs.get(timeout=max(0.0, self._due - self.clock()))
                except queue.Empty:
                    continue
                job.run()
        finally:
            self._close()

    def _beat(self, now: float) -> float:
        """Renew, or read; one attempt. Returns when the next one is due."""
        holding = self.holding
        if holding is not None and not holding.reported:
            every = self.timing.renew_every
            answered = isinstance(self.renew(holding), Held | Gone)
        else:
            every = self.timing.poll_every
            answered = self._poll(holding)
        self._around.in_touch(answered)
        return now + every if answered else self.clock() + self.calls.pause()

    def _poll(self, holding: Holding | None) -> bool:
        limit = self.timing.call_limit
        if holding is None:
            self._around.idle()
        elif holding.to_revoke and isinstance(self.release(holding, within=limit), Unknown):
            return False
        try:
            self.look(limit)
        except EtcdError:
            return False
        return True

    def _stop(self) -> None:
        if self.holding is not None:
            self.release(self.holding, within=self.timing.ttl)
        self._stopping = True

    def _close(self) -> None:
        with self._door:
            self._closed = True
        while not self._jobs.empty():
            self._jobs.get().refuse("the lease was stopped")
        self.calls.close()
