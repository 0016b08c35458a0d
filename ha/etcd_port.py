"""The lease port over etcd: two threads on one side, the event loop on the other.

Everything that blocks happens on the keeper's thread. The loop asks by futures and is told by callbacks; it also ticks,
and the ticks are what the keeper's renewing depends on (R12).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from engine.clock import Clock, boottime
from ha import etcd_runfile
from ha.etcd_access import EtcdAccess, leader_key, state_key
from ha.etcd_commands import Commands
from ha.etcd_keeper import Job, Keeper
from ha.etcd_sight import Sight
from ha.etcd_watch import Watcher
from ha.lease import (
    EtcdContact,
    Gone,
    Grant,
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
)
from ha.lease_etcd import TOKEN_LIFE, EtcdClient, EtcdWatch, credentials_of

TICK = 0.1
T = TypeVar("T")


class EtcdLease:
    """`LeasePort` over etcd. `run_dir` must exist; RUN_DIR/lease.json is written there before a lease is granted."""

    def __init__(
        self,
        access: EtcdAccess,
        *,
        cluster: str,
        run_dir: Path,
        timing: LeaseTiming | None = None,
        clock: Clock = boottime,
        token_life: float = TOKEN_LIFE,
    ) -> None:
        self.on_outcome: OnOutcome | None = None
        self.on_change: OnChange | None = None
        self.on_stall: OnStall | None = None
        self._access = access
        self._cluster = cluster
        self._timing = timing or LeaseTiming()
        self._clock = clock
        self._key = leader_key(cluster)
        self._client = EtcdClient(access, longest_pause=self._timing.poll_every, clock=clock, token_life=token_life)
        sight = Sight(lambda state: self._on_loop(self._tell_change, state))
        self._keeper = Keeper(self._client, sight, self, key=self._key, timing=self._timing, clock=clock)
        self._commands = Commands(self._keeper, _RunDir(run_dir, cluster, self._key, access))
        self._watcher = Watcher(
            lambda endpoint: EtcdWatch(endpoint, access, self._key, limit=self._timing.call_limit, life=token_life),
            self._keeper.notice,
            self._keeper.read_soon,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticked_at = clock()
        self._next_tick: asyncio.TimerHandle | None = None

    # --------------------------------------------------------------------------------------------------- the port
    async def start(self) -> None:
        """See LeasePort."""
        try:
            credentials_of(self._access)
        except OSError as error:
            raise RuntimeError(f"etcd's TLS files cannot be read: {error}") from error
        self._loop = asyncio.get_running_loop()
        self._ticked_at = self._clock()
        self._tick()
        self._keeper.start()
        self._watcher.start()

    async def stop(self) -> None:
        """See LeasePort."""
        if self._loop is None:
            return
        await asyncio.to_thread(self._end_threads)
        if self._next_tick is not None:
            self._next_tick.cancel()
        self._loop = None

    async def read(self) -> LeaderSeen | Unknown:
        """See LeasePort."""
        return await self._ask(self._commands.read)

    async def campaign(self, record: LeaderRecord) -> Grant | Lost | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._commands.campaign(record))

    async def take_over(self, expected: LeaderSeen, record: LeaderRecord) -> Grant | Lost | Unknown:
        """See LeasePort."""
        return await self._ask(lambda: self._commands.take_over(expected, record))

    async def announce(self, record: LeaderRecord) -> Outcome:
        """See LeasePort."""
        return await self._ask(lambda: self._commands.announce(record))

    async def verify(self) -> Outcome:
        """See LeasePort."""
        return await self._ask(self._commands.verify)

    async def release(self) -> Gone | Unknown:
        """See LeasePort."""
        self._keeper.forsake()
        return await self._ask(self._commands.release)

    async def get_state(self, key: str) -> StateSeen | Unknown:
        """See LeasePort."""
        full = state_key(self._cluster, key)
        return await self._ask(lambda: self._commands.get_state(full))

    async def put_state(
        self, key: str, value: str, *, expect: int | None = None, fenced: bool = True
    ) -> Stored | Refused | Unknown:
        """See LeasePort."""
        full = state_key(self._cluster, key)
        return await self._ask(lambda: self._commands.put_state(full, value, expect, fenced))

    def trust_left(self, now: float) -> float:
        """See LeasePort."""
        return self._keeper.trust_left(now)

    def loop_stalled_for(self, now: float) -> float:
        """See LeasePort."""
        return max(0.0, now - self._ticked_at)

    def contact(self) -> EtcdContact:
        """See LeasePort."""
        return EtcdContact(
            endpoints=len(self._access.endpoints),
            member=self._client.endpoint,
            answered_at=self._keeper.answered_at,
            problem=self._commands.disk_problem or self._client.problem,
            keeper_seen_at=self._keeper.seen_at,
        )

    # ------------------------------------------------------------------- Surroundings, called by the keeper's thread
    def outcome(self, outcome: Outcome) -> None:
        """A renewal ended so: tell the loop."""
        self._on_loop(self._tell_outcome, outcome)

    def in_touch(self, yes: bool) -> None:
        """Watch where the keeper is answered; nowhere while it is not."""
        self._watcher.follow(self._client.endpoint if yes else None)

    def idle(self) -> None:
        """Have the next lease's id on the disk."""
        self._commands.prepare()

    # ---------------------------------------------------------------------------------------------------- the loop
    def _tick(self) -> None:
        now = self._clock()
        gap, self._ticked_at = now - self._ticked_at, now
        if gap > self._timing.loop_allowance:
            self._keeper.give_up(f"the event loop stood still for {gap:.2f} s")
            if self.on_stall is not None:
                self.on_stall(gap)
        if self._loop is not None:
            self._next_tick = self._loop.call_later(TICK, self._tick)

    def _tell_outcome(self, outcome: Outcome) -> None:
        if self._loop is not None and self.on_outcome is not None:
            self.on_outcome(outcome)

    def _tell_change(self, state: LeaderSeen) -> None:
        if self._loop is not None and self.on_change is not None:
            self.on_change(state)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        """From any thread. A loop that has been closed has nobody left to tell."""
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            if not loop.is_closed():
                raise

    async def _ask(self, command: Callable[[], T]) -> T:
        """Have the command carried out. What is won for a caller that was cancelled meanwhile is given back."""
        if self._loop is None:
            raise RuntimeError("the lease is not started")
        future: asyncio.Future[Any] = self._loop.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                result = command()
            except BaseException as error:  # noqa: BLE001 - a defect: raised where the command was asked for
                self._on_loop(self._deliver, future, None, error)
            else:
                self._on_loop(self._deliver, future, result, None)

        def refuse(reason: str) -> None:
            self._on_loop(self._deliver, future, Unknown(reason), None)

        self._keeper.submit(Job(run, refuse))
        try:
            return cast(T, await future)
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give_back(future.result())
            raise

    def _deliver(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        if future.cancelled():
            self._give_back(result)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _give_back(self, result: Any) -> None:
        if isinstance(result, Grant):
            lease_id = result.lease_id
            self._keeper.submit(Job(lambda: _ignore(self._commands.release(lease_id)), _ignore))

    def _end_threads(self) -> None:
        self._watcher.stop()
        self._keeper.stop()


class _RunDir:
    """The `Disk` of one replica."""

    def __init__(self, run_dir: Path, cluster: str, key: str, access: EtcdAccess) -> None:
        self._run_dir = run_dir
        self._content = etcd_runfile.LeaseFile.of_this_process(1, cluster, key, access)

    def write(self, lease_id: int) -> None:
        etcd_runfile.write(self._run_dir, replace(self._content, lease_id=lease_id))

    def shows(self, lease_id: int) -> bool:
        try:
            return etcd_runfile.read(self._run_dir) == replace(self._content, lease_id=lease_id)
        except (etcd_runfile.BadLeaseFile, OSError):
            return False  # it is written anew


def _ignore(_: object) -> None:
    """A release that is not confirmed is tried again by each beat."""
