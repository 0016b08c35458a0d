"""What is still known of entities that have left memory: counts, and their numbers in 8 bytes each. Plain values, no clock.

It only answers quickly what the database would answer too. Of the newest half million numbers at least (a million at most, 8 MB)
it can say "that one left memory"; of older ones it says nothing, and `forgotten` says that there are such: then ask the database.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field

ROOM = 1 << 19
"""Numbers in one generation; there are two, and the older one goes when the younger is full."""

_MASK = (1 << 64) - 1
_BUCKETS = 16381  # a prime: permIds are consecutive, and what is looked up is found among some tens of others


@dataclass(slots=True)
class Numbers:
    """Numbers of 64 bits, a negative one as its two's complement. Those that differ in the last 8 bits only lie side by side."""

    room: int = ROOM
    young: dict[int, array[int]] = field(default_factory=dict)
    old: dict[int, array[int]] = field(default_factory=dict)
    count: int = 0  # in the younger generation
    forgotten: int = 0  # numbers that are no longer here

    def add(self, number: int) -> None:
        """Note `number`, forgetting the older generation when there is no room."""
        number &= _MASK  # what IB sends as a permId is signed
        if self.count >= self.room:
            self.forgotten += sum(map(len, self.old.values()))
            self.old, self.young, self.count = self.young, {}, 0
        self.young.setdefault((number >> 8) % _BUCKETS, array("Q")).append(number)
        self.count += 1

    def __contains__(self, number: int) -> bool:
        number &= _MASK
        bucket = (number >> 8) % _BUCKETS
        return number in self.young.get(bucket, ()) or number in self.old.get(bucket, ())

    def last_bits(self, number: int) -> int | None:
        """The highest last 8 bits of the numbers here that are `number` but for these; None when there is none."""
        wanted, bucket = number >> 8, (number >> 8) % _BUCKETS
        found = [n & 0xFF for n in self.young.get(bucket, ()) if n >> 8 == wanted]
        if self.old:
            found += [n & 0xFF for n in self.old.get(bucket, ()) if n >> 8 == wanted]
        return max(found, default=None)


@dataclass(slots=True)
class Evicted:
    """What has left memory. One that was recalled and left again counts again."""

    orders: int = 0
    executions: int = 0
    last_order_seq: int = 0  # the highest `seq` of an order that left
    last_execution_seq: int = 0
    perm_ids: Numbers = field(default_factory=Numbers)
    roots: Numbers = field(default_factory=Numbers)  # 56 bits of a hash of account and root, 8 of the revision

    @property
    def any(self) -> bool:
        """Whether anything has ever left."""
        return bool(self.orders or self.executions)

    def note_execution(self, account: str, root: str, revision: int, seq: int) -> None:
        """An execution leaves."""
        self.executions += 1
        self.last_execution_seq = max(self.last_execution_seq, seq)
        self.roots.add(_number(account, root, revision))

    def revision(self, account: str, root: str) -> int | None:
        """In which revision (255 stands for any higher one too) this execution left, None when it is not known that it did."""
        return self.roots.last_bits(_number(account, root, 0))

    def has(self, account: str, root: str, revision: int) -> bool:
        """Whether this execution left in this revision or a higher one: nothing is to be learned of it."""
        if _number(account, root, revision) in self.roots:
            return True
        known = self.revision(account, root)
        return known is not None and known >= revision


def _number(account: str, root: str, revision: int) -> int:
    digest = hashlib.blake2b(f"{account}\x1f{root}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") << 8 | min(revision, 0xFF)
