"""What the event loop may ask of the keeper, each carried out on the keeper's thread as one piece."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol, TypeVar

from ha.etcd_calls import Condition, Field, repeat
from ha.etcd_claim import Claim
from ha.etcd_keeper import Holding, Keeper
from ha.etcd_members import EtcdError
from ha.lease import (
    MAX_LEASE_ID,
    Gone,
    Grant,
    Held,
    LeaderRecord,
    LeaderSeen,
    Lost,
    Outcome,
    Refused,
    StateSeen,
    Stored,
    Unknown,
)

T = TypeVar("T")


class Disk(Protocol):
    """Where a lease's id is kept before the lease exists (R34)."""

    def write(self, lease_id: int) -> None:
        """Put the id on the disk, in place of the last one. Raises OSError."""

    def shows(self, lease_id: int) -> bool:
        """Whether this id still stands there."""


class Commands:
    """The commands of the lease port. None of them raises for what etcd does."""

    def __init__(self, keeper: Keeper, disk: Disk) -> None:
        self._keeper = keeper
        self._disk = disk
        self._chosen: int | None = None  # on the disk, never granted
        self.disk_problem: str | None = None

    def prepare(self) -> None:
        """Choose the next lease's id and put it on the disk, ahead of the moment when every millisecond counts. When
        that fails, a campaign tries again, and says so."""
        if self._chosen is None:
            lease_id = secrets.randbelow(MAX_LEASE_ID) + 1
            try:
                self._disk.write(lease_id)
            except OSError as error:
                self.disk_problem = f"the lease file cannot be written: {error}"
                return
            self._chosen, self.disk_problem = lease_id, None

    def read(self) -> LeaderSeen | Unknown:
        """See LeasePort."""
        return self._asked(self._keeper.look)

    def campaign(self, record: LeaderRecord) -> Grant | Lost | Unknown:
        """See LeasePort."""
        return self._win(lambda claim: claim.campaign(record))

    def take_over(self, expected: LeaderSeen, record: LeaderRecord) -> Grant | Lost | Unknown:
        """See LeasePort."""
        if not expected.taken:
            return Unknown("there is no key to take over; campaign for it")
        return self._win(lambda claim: claim.take_over(expected, record))

    def announce(self, record: LeaderRecord) -> Outcome:
        """See LeasePort."""
        keeper, holding = self._keeper, self._held()
        if holding is None:
            return Gone("nothing is held")
        answer = self._asked(
            lambda limit: keeper.calls.put_if(
                self._carries(holding),
                keeper.key,
                record.under(holding.lease_id).to_text(),
                lease_id=holding.lease_id,
                limit=limit,
            )
        )
        if isinstance(answer, Unknown):
            return answer
        keeper.beat_now()  # shows the new record, or that the key is lost
        if answer.done:
            return Held(holding.lease_id, holding.ttl, holding.trusted_until)
        return Gone("the leader key does not carry our lease any more")

    def verify(self) -> Outcome:
        """See LeasePort."""
        keeper, holding = self._keeper, self._held()
        if holding is None:
            return Gone("nothing is held")
        deadline = max(holding.trusted_until, keeper.clock() + keeper.timing.call_limit)
        outcome = keeper.renew(holding)
        for _ in range(keeper.calls.members):
            if not isinstance(outcome, Unknown) or keeper.clock() >= deadline:
                break
            outcome = keeper.renew(holding)
        return outcome

    def release(self, lease_id: int | None = None) -> Gone | Unknown:
        """See LeasePort. With `lease_id` only if that is the one that is held."""
        holding = self._keeper.holding
        if holding is None or lease_id not in (None, holding.lease_id):
            return Gone("nothing is held")
        return self._keeper.release(holding, within=self._keeper.timing.ttl)

    def get_state(self, key: str) -> StateSeen | Unknown:
        """See LeasePort; `key` is the full one."""
        return self._asked(lambda limit: self._keeper.calls.get(key, limit))

    def put_state(self, key: str, value: str, expect: int | None, fenced: bool) -> Stored | Refused | Unknown:
        """See LeasePort; `key` is the full one."""
        conditions: list[Condition] = []
        if fenced:
            holding = self._held()
            if holding is None:
                return Refused("we do not hold the leader key")
            conditions += self._carries(holding)
        if expect is not None:
            conditions.append(Condition(Field.CHANGED, key, expect))
        calls = self._keeper.calls
        answer = self._asked(lambda limit: calls.put_if(conditions, key, value, lease_id=0, limit=limit), once=True)
        if isinstance(answer, Unknown):
            return answer
        if answer.done:
            return Stored(answer.revision)
        return Refused(f"{key} is at another revision, or the leader key does not carry our lease")

    def _win(self, attempt: Callable[[Claim], Grant | Lost | Unknown]) -> Grant | Lost | Unknown:
        keeper = self._keeper
        if self._held() is not None:
            return Unknown("the lease is held already; release it first")
        if keeper.holding is not None:
            keeper.release(keeper.holding, within=keeper.timing.call_limit)
        if self._chosen is not None and not self._disk.shows(self._chosen):
            self._chosen = None
        self.prepare()
        if self._chosen is None:
            return Unknown(self.disk_problem or "the lease file cannot be written")
        lease_id, self._chosen = self._chosen, None
        answer = attempt(Claim(keeper.calls, keeper.timing, keeper.key, keeper.clock, lease_id))
        if isinstance(answer, Grant):
            keeper.hold(answer)
        elif isinstance(answer, Lost):
            keeper.sight.event(answer.seen)
        return answer

    def _held(self) -> Holding | None:
        holding = self._keeper.holding
        return holding if holding is not None and holding.ended is None else None

    def _carries(self, holding: Holding) -> list[Condition]:
        key = self._keeper.key
        return [
            Condition(Field.LEASE, key, holding.lease_id),
            Condition(Field.CREATED, key, holding.create_revision),
        ]

    def _asked(self, call: Callable[[float], T], *, once: bool = False) -> T | Unknown:
        """Attempt a call; one attempt only while something is held, since renewing must not wait for it."""
        keeper = self._keeper
        limit = keeper.timing.call_limit
        try:
            if once or self._held() is not None:
                return call(limit)
            return repeat(
                keeper.calls, call, limit=limit, deadline=keeper.clock() + keeper.timing.ttl, clock=keeper.clock
            )
        except EtcdError as error:
            return Unknown(error.reason)
