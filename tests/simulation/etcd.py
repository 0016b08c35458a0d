"""etcd as a leader key, leases and a few small values sees it: linearizable, with watches that are not to be trusted alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ha.etcd_calls import Condition, Field, PutAnswer
from ha.etcd_members import EtcdError, Verdict
from ha.etcd_sight import seen
from ha.lease import LeaderSeen, StateSeen
from tests.simulation.world import World

GRACE = 0.5  # a key goes half a second after its lease's ttl
CLUSTER = "c1"


@dataclass(slots=True)
class Key:
    """One key with its revisions."""

    value: str
    lease_id: int
    created: int
    changed: int


class Etcd:
    """The cluster of three, as one."""

    def __init__(self, world: World, leader_key: str) -> None:
        self._world, self.leader_key = world, leader_key
        self.away = False
        self.revision = 1
        self.keys: dict[str, Key] = {}
        self.leases: dict[int, int] = {}
        self._ends: dict[int, asyncio.TimerHandle] = {}
        self.watchers: list[Callable[[LeaderSeen], None]] = []

    # ---- what clients ask; each raises EtcdError as the real one does

    def read(self, key: str) -> LeaderSeen:
        """The key as a leader record."""
        found = self.keys.get(key)
        where = {"revision": self.revision, "cluster_id": CLUSTER}
        if found is None:
            return seen(None, 0, 0, **where)  # type: ignore[arg-type]
        return seen(found.value.encode(), found.lease_id, found.created, **where)  # type: ignore[arg-type]

    def get(self, key: str) -> StateSeen:
        """A small value."""
        found = self.keys.get(key)
        return StateSeen(found.value, found.changed) if found is not None else StateSeen(None, 0)

    def put_if(self, conditions: Sequence[Condition], key: str, value: str, lease_id: int) -> PutAnswer:
        """One transaction."""
        if all(self._number(one) == one.number for one in conditions):
            if lease_id and lease_id not in self.leases:
                raise EtcdError(Verdict.NO_LEASE, "requested lease not found")
            self.revision += 1
            old = self.keys.get(key)
            self.keys[key] = Key(value, lease_id, old.created if old else self.revision, self.revision)
            self._tell(key)
            return PutAnswer(True, self.revision, CLUSTER, None)
        found = self.read(conditions[0].key)
        return PutAnswer(False, self.revision, CLUSTER, found)

    def grant(self, lease_id: int, ttl: int) -> int:
        """Make a lease."""
        if lease_id in self.leases:
            raise EtcdError(Verdict.EXISTS, "lease already exists")
        self.leases[lease_id] = ttl
        self._restart(lease_id)
        return ttl

    def renew(self, lease_id: int) -> int:
        """Its ttl, 0 when there is none."""
        if lease_id not in self.leases:
            return 0
        self._restart(lease_id)
        return self.leases[lease_id]

    def revoke(self, lease_id: int) -> None:
        """End a lease and the keys under it."""
        if lease_id not in self.leases:
            raise EtcdError(Verdict.NO_LEASE, "requested lease not found")
        self._end(lease_id)

    # ---- what happens to it

    def go_away(self) -> None:
        """No quorum: nobody is answered, and no lease runs out."""
        self.away = True
        for timer in self._ends.values():
            timer.cancel()

    def come_back(self) -> None:
        """A new leader of etcd's own: every lease has its full ttl again."""
        self.away = False
        for lease_id in self.leases:
            self._restart(lease_id)

    def _restart(self, lease_id: int) -> None:
        if (timer := self._ends.pop(lease_id, None)) is not None:
            timer.cancel()
        self._ends[lease_id] = self._world.after(self.leases[lease_id] + GRACE, self._end, lease_id)

    def _end(self, lease_id: int) -> None:
        self.leases.pop(lease_id, None)
        if (timer := self._ends.pop(lease_id, None)) is not None:
            timer.cancel()
        for name in [name for name, key in self.keys.items() if key.lease_id == lease_id]:
            self.revision += 1
            del self.keys[name]
            self._world.say("etcd", f"{name} is gone with its lease")
            self._tell(name)

    def _number(self, condition: Condition) -> int:
        key = self.keys.get(condition.key)
        if key is None:
            return 0
        return {Field.CREATED: key.created, Field.CHANGED: key.changed, Field.LEASE: key.lease_id}[condition.field]

    def _tell(self, key: str) -> None:
        if key == self.leader_key:
            state = self.read(key)
            for tell in list(self.watchers):
                tell(state)
