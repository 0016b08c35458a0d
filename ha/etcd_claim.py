"""How the leader key is won: one transaction, and what is done when its answer is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.clock import Clock
from ha.etcd_calls import Calls, Condition, Field, PutAnswer, repeat
from ha.etcd_members import EtcdError, Verdict
from ha.lease import Gone, Grant, LeaderRecord, LeaderSeen, LeaseTiming, Lost, Unknown, trust_until


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt to win the key. `lease_id` was never used before and is in the run directory already (R34)."""

    calls: Calls
    timing: LeaseTiming
    key: str
    clock: Clock
    lease_id: int

    def campaign(self, record: LeaderRecord) -> Grant | Lost | Unknown:
        """Take the key if it does not exist."""
        return self._attempt(record, [Condition(Field.CREATED, self.key, 0)])

    def take_over(self, expected: LeaderSeen, record: LeaderRecord) -> Grant | Lost | Unknown:
        """Replace the key if it still carries the lease that was seen, then revoke that lease (R30)."""
        same = [
            Condition(Field.LEASE, self.key, expected.lease_id),
            Condition(Field.CREATED, self.key, expected.create_revision),
        ]
        answer = self._attempt(record, same)
        if isinstance(answer, Grant) and expected.lease_id:
            # The key has left that lease; if this fails, the lease runs out with nothing on it.
            self._revoke(expected.lease_id)
        return answer

    def _attempt(self, record: LeaderRecord, conditions: Sequence[Condition]) -> Grant | Lost | Unknown:
        try:
            began, ttl = self._grant()
        except EtcdError as error:
            return Unknown(f"no lease: {error.reason}")
        value = record.under(self.lease_id).to_text()
        try:
            answer = self.calls.put_if(
                conditions, self.key, value, lease_id=self.lease_id, limit=self.timing.call_limit
            )
        except EtcdError as error:
            return self._resolve(began, ttl, error)
        if answer.found is None:
            return self._won(answer, conditions, began, ttl)
        self._revoke(self.lease_id)
        return Lost(answer.found)

    def _grant(self) -> tuple[float, int]:
        """Make the lease; returns the start of the attempt that may have made it, and the ttl. Raises EtcdError."""
        began = attempt = self.clock()

        def grant(limit: float) -> tuple[float, int]:
            nonlocal attempt
            attempt = self.clock()
            try:
                return attempt, self.calls.grant(self.lease_id, self.timing.ttl, limit)
            except EtcdError as error:
                if error.verdict is Verdict.EXISTS:  # an earlier attempt, whose answer was lost, was carried out
                    return began, self.timing.ttl
                raise

        return repeat(
            self.calls, grant, limit=self.timing.call_limit, deadline=began + self.timing.ttl, clock=self.clock
        )

    def _won(self, answer: PutAnswer, conditions: Sequence[Condition], began: float, ttl: int) -> Grant:
        created = next(one.number for one in conditions if one.field is Field.CREATED) or answer.revision
        return self._grant_of(created, answer.cluster_id, began, ttl)

    def _grant_of(self, create_revision: int, cluster_id: str, began: float, ttl: int) -> Grant:
        trusted = trust_until(began, ttl, self.timing.margin)
        return Grant(self.lease_id, create_revision, cluster_id, ttl, trusted)

    def _resolve(self, began: float, ttl: int, lost: EtcdError) -> Grant | Lost | Unknown:
        """The answer to the transaction was lost. If the key carries our lease, we hold it. If not, the lease is
        revoked: the transaction, if it is still on its way, can then put nothing under it."""
        trusted = trust_until(began, ttl, self.timing.margin)
        try:
            found = repeat(
                self.calls,
                lambda limit: self.calls.read(self.key, limit),
                limit=self.timing.call_limit,
                deadline=trusted,
                clock=self.clock,
            )
        except EtcdError as error:
            self._revoke(self.lease_id)
            return Unknown(f"the answer was lost ({lost.reason}) and so was the reading after it ({error.reason})")
        if found.lease_id == self.lease_id and self.clock() < trusted:
            return self._grant_of(found.create_revision, found.cluster_id, began, ttl)
        revoked = self._revoke(self.lease_id)
        if isinstance(revoked, Gone) and found.taken and found.lease_id != self.lease_id:
            return Lost(found)
        return Unknown(f"the answer was lost: {lost.reason}")

    def _revoke(self, lease_id: int) -> Gone | Unknown:
        limit = self.timing.call_limit
        return revoke(self.calls, lease_id, limit=limit, within=2 * limit, clock=self.clock)


def revoke(calls: Calls, lease_id: int, *, limit: float, within: float, clock: Clock) -> Gone | Unknown:
    """Revoke a lease, at one member after the other, each within `limit`. Gone: it certainly does not exist now."""
    try:
        repeat(
            calls,
            lambda limit: calls.revoke(lease_id, limit),
            limit=limit,
            deadline=clock() + within,
            clock=clock,
        )
    except EtcdError as error:
        if error.verdict is Verdict.NO_LEASE:
            return Gone("there was no such lease")
        return Unknown(error.reason)
    return Gone("released")
