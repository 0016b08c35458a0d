"""Order ids as the gateway remembers them, per client, in bounded memory. Pure."""

from dataclasses import dataclass

REMEMBERED = 10_000
"""So many ended orders per client are known by their id; an older one is "not found", as a day later at IB."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an order ended, and what it was: enough to tell a late modification from a stranger's order."""

    status: str
    con_id: int
    side: str
    order_ref: str


class TakenIds:
    """The order ids of one clientId: the lowest that is free, and the last orders that ended."""

    __slots__ = ("_ended", "next_valid")

    def __init__(self, first: int) -> None:
        self.next_valid = first
        """The lowest id that is greater than every one used."""
        self._ended: dict[int, Ended] = {}

    def add(self, order_id: int) -> None:
        """Remembers that this id, and every lower one, is used."""
        self.next_valid = max(self.next_valid, order_id + 1)

    def used(self, order_id: int) -> bool:
        """Whether a new order may not have this id: it, or a higher one, was used."""
        return order_id < self.next_valid

    def roll_back(self, count: int) -> None:
        """Forgets that the last `count` ids were used."""
        self.next_valid = max(self.next_valid - count, 1)

    def finish(self, order_id: int, ended: Ended) -> None:
        """Remembers how the order ended."""
        self._ended[order_id] = ended
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def end(self, order_id: int) -> Ended | None:
        """How that order ended; None if it did not, or long ago, or there was no such order."""
        return self._ended.get(order_id)
