"""The lease, as values and as a port: what is asked of etcd and what can be answered, without etcd.

A lease is for liveness only. It says who should act; that nobody else acts is the business of the epoch and of the
broker session. Three outcomes are kept apart everywhere: `Held` (proved, until a moment), `Gone` (proved: stop at
once) and `Unknown` (etcd did not say). Unknown is never turned into one of the others by a timer.

All moments are seconds of CLOCK_BOOTTIME: they stay true over a suspended machine and mean nothing on another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

MAX_LEASE_ID = 2**63 - 1  # etcd's lease ids are positive int64
MIN_TTL = 2  # etcd grants 2 s when asked for 1


# ---------------------------------------------------------------------------------------------------------- outcomes
@dataclass(frozen=True, slots=True)
class Held:
    """The lease is alive and the leader key carries it. `ttl` in seconds as granted, trust ends at `trusted_until`."""

    lease_id: int
    ttl: int
    trusted_until: float


@dataclass(frozen=True, slots=True)
class Gone:
    """The lease or the key is certainly not ours any more, or may not be used any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """etcd did not give an answer that proves anything. What was true before may still be true, or not."""

    reason: str


Outcome = Held | Gone | Unknown


def trust_until(attempt_start: float, granted_ttl: int, margin: float) -> float:
    """The moment until which a renewal that began at `attempt_start` and succeeded can be trusted.

    Counted from before the request left, since etcd may have restarted the ttl at any moment after that.
    """
    return attempt_start + granted_ttl - margin


# ------------------------------------------------------------------------------------------------------------ timing
@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds. `ttl` is asked of etcd, `margin` is taken off the trust, `renew_every` is the renewing thread's pace,
    and `loop_allowance` is how long the event loop may stand still before the lease is given up (R12).

    Raises ValueError with a sentence at construction when the relations do not hold.
    """

    ttl: int = 2
    margin: float = 0.5
    renew_every: float = 0.5
    loop_allowance: float = 0.5

    def __post_init__(self) -> None:
        if self.ttl != int(self.ttl) or self.ttl < MIN_TTL:
            raise ValueError(f"the lease's ttl is {self.ttl} s; etcd grants whole seconds, {MIN_TTL} s at least")
        for name in ("margin", "renew_every", "loop_allowance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"the lease's {name} is {getattr(self, name)} s; it must be above 0")
        if self.renew_every + self.call_limit >= self.trust:
            raise ValueError(
                f"renewing every {self.renew_every} s leaves no time for a second attempt: renew_every plus one call "
                f"to a frozen member (ttl / 3 = {self.call_limit:.2f} s) must stay below ttl - margin = {self.trust} "
                f"s; raise the ttl or lower renew_every or the margin"
            )
        if self.loop_allowance >= self.trust:
            raise ValueError(
                f"the event loop may stand still for {self.loop_allowance} s, but a renewal is trusted for "
                f"ttl - margin = {self.trust} s only; lower loop_allowance below that"
            )

    @property
    def call_limit(self) -> float:
        """The longest that one call to one member may take; a frozen member is left after it."""
        return self.ttl / 3

    @property
    def trust(self) -> float:
        """How long a renewal is trusted, if etcd grants the ttl that is asked for."""
        return self.ttl - self.margin

    @property
    def poll_every(self) -> float:
        """A watch is never trusted alone: the key is also read this often."""
        return self.ttl / 2


# ------------------------------------------------------------------------------------------------------------ record
class BadLeaderRecord(ValueError):
    """The leader key's value is not one of ours."""


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """What stands in the leader key.

    `instance` is the random id of one process (R34: two replicas with one name stay distinguishable), `url` is where
    clients and the other replica reach it, `epoch` is 0 until it is claimed, `version` is the adapter's.
    """

    name: str
    instance: str
    url: str
    lease_id: int = 0
    epoch: int = 0
    version: str = ""

    def to_text(self) -> str:
        """JSON on one line; `from_text` reads it back."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | bytes) -> LeaderRecord:
        """Read a record. Fields that are not known here are left aside (a newer version wrote them).

        Raises BadLeaderRecord, with what is wrong, for anything else than a record.
        """
        fields = _json_object(text)
        for name in ("name", "instance", "url", "version"):
            if not isinstance(fields.get(name), str):
                raise BadLeaderRecord(f"the leader record's {name} is not a text: {fields.get(name)!r}")
            if not fields[name] and name != "version":
                raise BadLeaderRecord(f"the leader record's {name} is empty")
        for name, least in (("lease_id", 1), ("epoch", 0)):
            value = fields.get(name)
            if type(value) is not int or not least <= value <= MAX_LEASE_ID:
                raise BadLeaderRecord(f"the leader record's {name} is not a number from {least} on: {value!r}")
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})

    def under(self, lease_id: int) -> LeaderRecord:
        """The same record under another lease."""
        return replace(self, lease_id=lease_id)


def _json_object(text: str | bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError alike
        raise BadLeaderRecord(f"the leader record is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadLeaderRecord(f"the leader record is not an object: {fields!r}")
    return fields


# ----------------------------------------------------------------------------------------------------------- answers
@dataclass(frozen=True, slots=True)
class LeaderSeen:
    """The leader key as etcd showed it at `revision`.

    `lease_id` and `create_revision` are 0 while there is no key. `record` is None while there is no key, and also when
    the key holds something that is not a record: then `problem` says what.
    """

    record: LeaderRecord | None
    lease_id: int
    create_revision: int
    revision: int
    cluster_id: str
    problem: str | None = None

    @property
    def taken(self) -> bool:
        """Somebody's key stands there, readable or not."""
        return self.create_revision != 0

    def same_key(self, other: LeaderSeen) -> bool:
        """The key is in the same state; only etcd's own revision may have moved on."""
        return replace(self, revision=0) == replace(other, revision=0)


@dataclass(frozen=True, slots=True)
class Grant:
    """A campaign or a take-over that was won. `ttl` in seconds as granted; `cluster_id` is etcd's (R32)."""

    lease_id: int
    create_revision: int
    cluster_id: str
    ttl: int
    trusted_until: float


@dataclass(frozen=True, slots=True)
class Lost:
    """A campaign or a take-over that somebody else won; nothing is left of ours."""

    seen: LeaderSeen


@dataclass(frozen=True, slots=True)
class StateSeen:
    """A small value beside the leader key; None and revision 0 while there is none."""

    value: str | None
    revision: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A small value is written, at this revision."""

    revision: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A small value was not written: we do not hold the leader key, or it is not at the revision that we expected."""

    reason: str


@dataclass(frozen=True, slots=True)
class EtcdContact:
    """How we stand with etcd: moments of CLOCK_BOOTTIME, 0.0 for never."""

    endpoints: int  # configured
    member: str  # the one that we talk to
    answered_at: float  # start of the last linearizable read of the leader key that was answered
    problem: str | None  # of the last call, None when it was answered
    keeper_seen_at: float  # when the renewing thread last came round; it does so every ttl / 2 at least


OnOutcome = Callable[[Outcome], None]
OnChange = Callable[[LeaderSeen], None]
OnStall = Callable[[float], None]


class LeasePort(Protocol):
    """What the elector and the node ask of a lease. One object serves one replica for its whole life.

    No method raises for what etcd does or fails to do; that is an answer. All but the properties belong to the event
    loop that called `start`. Each call is bounded: by ttl / 3 per member that is asked, and never longer than 2 x ttl.
    """

    on_outcome: OnOutcome | None  # called on the event loop with each outcome of renewing
    on_change: OnChange | None  # called on the event loop when the leader key is in another state than last reported
    on_stall: OnStall | None  # called on the event loop, with the seconds, when it ran again after its allowance (R12)

    async def start(self) -> None:
        """Begin to watch the leader key. Raises RuntimeError with a sentence when the process cannot do so at all
        (wrong protobuf form, unreadable certificates); an etcd that is away is no reason to raise."""

    async def stop(self) -> None:
        """Release what is held, end the threads, close the connections. Afterwards nothing is called back."""

    async def read(self) -> LeaderSeen | Unknown:
        """Read the leader key, linearizably."""

    async def campaign(self, record: LeaderRecord) -> Grant | Lost | Unknown:
        """Take the leader key if nobody has it. After Grant the lease is renewed until `release` or Gone.

        The record's lease id is filled in here. Lost and Unknown leave no lease that we know of: it is revoked, or it
        runs out within the ttl. A call that is cancelled gives back what it wins.
        """

    async def take_over(self, expected: LeaderSeen, record: LeaderRecord) -> Grant | Lost | Unknown:
        """Replace the key if it still carries `expected`'s lease, then revoke that lease (R30)."""

    async def announce(self, record: LeaderRecord) -> Outcome:
        """Rewrite the record in the key that we hold (the epoch, once it is claimed)."""

    async def verify(self) -> Outcome:
        """Prove now that the lease is alive and that the key carries it (R13). Held also extends the trust."""

    async def release(self) -> Gone | Unknown:
        """Revoke exactly our lease. Gone also when there was none; Unknown leaves it to run out within the ttl."""

    async def get_state(self, key: str) -> StateSeen | Unknown:
        """Read a small value of this pair."""

    async def put_state(
        self, key: str, value: str, *, expect: int | None = None, fenced: bool = True
    ) -> Stored | Refused | Unknown:
        """Write a small value of this pair: with `fenced` only while we hold the leader key, with `expect` only while
        its revision is that one (0: it does not exist). After Unknown it may be written or not."""

    def trust_left(self, now: float) -> float:
        """Seconds of trust that the last renewal leaves at `now`; 0 when there is none, or the lease is gone."""

    def loop_stalled_for(self, now: float) -> float:
        """Seconds since the event loop last ran, a tick (100 ms) being normal. Any thread may ask."""

    def contact(self) -> EtcdContact:
        """How we stand with etcd."""
