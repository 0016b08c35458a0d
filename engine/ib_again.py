"""openOrder and orderStatus messages that say word for word what one before them said: the same fact, without decoding.

A list of open orders says of a resting order the same each time, mostly what its acknowledgement said already. Decoding is most of
what a list costs: 9,000 open orders take more than half a second of the leader's core, behind which every acknowledgement waits.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Generic, TypeVar

Fact = TypeVar("Fact")

MOST = 20_000
"""Messages in each of the two generations that are remembered, about 1 KB each."""


class Again(Generic[Fact]):
    """One session's messages of one kind, in place of ib_async's handler for them.

    `decode(fields)` decodes a message and leads to `decoded(fact)`; `take(fact)` is called with the fact of each message, once.
    """

    def __init__(self, decode: Callable[[list[str]], None], take: Callable[[Fact], None]) -> None:
        self._decode, self._take = decode, take
        self._said: bytes = b""  # of the message that is being decoded
        self._facts: dict[bytes, Fact] = {}
        self._before: dict[bytes, Fact] = {}  # not heard again since the last list began

    def __call__(self, fields: list[str]) -> None:
        """One message, its fields as they came."""
        said = blake2b("\0".join(fields).encode(), digest_size=16).digest()
        fact = self._facts.get(said) or self._before.pop(said, None)
        if fact is None:
            self._said = said
            self._decode(fields)
        else:
            self._keep(said, fact)
            self._take(fact)

    def decoded(self, fact: Fact) -> None:
        """What the message that is being decoded says."""
        self._keep(self._said, fact)
        self._take(fact)

    def list_begins(self) -> None:
        """What was not heard again since the last list began is forgotten: it is open no more."""
        self._before, self._facts = self._facts, {}

    def _keep(self, said: bytes, fact: Fact) -> None:
        if len(self._facts) >= MOST:
            self.list_begins()
        self._facts[said] = fact
