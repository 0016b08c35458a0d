"""The calls on etcd that a lease needs, as a port, so that who uses them imports no client library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from ha.etcd_members import EtcdError, Verdict
from ha.lease import LeaderSeen, StateSeen

T = TypeVar("T")


class Field(Enum):
    """What of a key a condition is about."""

    CREATED = "create_revision"
    CHANGED = "mod_revision"
    LEASE = "lease"


@dataclass(frozen=True, slots=True)
class Condition:
    """`field` of `key` equals `number`; a key that does not exist has 0 everywhere."""

    field: Field
    key: str
    number: int


@dataclass(frozen=True, slots=True)
class PutAnswer:
    """A conditional write: done or not. When not done, `found` is the key that the first condition names."""

    done: bool
    revision: int
    cluster_id: str
    found: LeaderSeen | None


class Calls(Protocol):
    """One attempt at one member each, within `limit` seconds. Each raises EtcdError, having left the member if that
    is what the error asks for, so that the next attempt meets another one. For one thread."""

    @property
    def members(self) -> int:
        """How many members there are to ask."""

    def read(self, key: str, limit: float) -> LeaderSeen:
        """Read a leader key, linearizably."""

    def get(self, key: str, limit: float) -> StateSeen:
        """Read a small value, linearizably."""

    def put_if(
        self, conditions: Sequence[Condition], key: str, value: str, *, lease_id: int, limit: float
    ) -> PutAnswer:
        """Write `key` under `lease_id` (0: none) in one transaction, if all conditions hold."""

    def grant(self, lease_id: int, ttl: int, limit: float) -> int:
        """Make the lease; returns the ttl granted, in seconds. EXISTS when it stands already."""

    def renew(self, lease_id: int, limit: float) -> int:
        """Renew the lease; returns the ttl, 0 when there is no such lease."""

    def revoke(self, lease_id: int, limit: float) -> None:
        """Revoke the lease. NO_LEASE when there is none."""

    def pause(self) -> float:
        """Seconds to wait before the next attempt; 0 while there is a member that was not asked yet."""

    def close(self) -> None:
        """Close the connection. The next call opens one."""


def repeat(calls: Calls, call: Callable[[float], T], *, limit: float, deadline: float, clock: Callable[[], float]) -> T:
    """Attempt `call(limit)` at one member after the other, until one answers, each was asked and one of them twice (a
    connection may have died unnoticed, or a token ended), or `deadline` passes. Raises the last EtcdError.
    """
    tried = 0
    while True:
        try:
            return call(min(limit, deadline - clock()))
        except EtcdError as error:
            tried += 1
            again = error.verdict in (Verdict.LEAVE, Verdict.TOKEN)
            if not again or tried > calls.members or clock() >= deadline:
                raise
