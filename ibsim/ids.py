"""Order ids as the gateway remembers them: per client, for ever, a few bytes each. Pure."""

from array import array
from bisect import bisect_left

_STATES = ("", "Filled", "Cancelled", "Inactive")


class TakenIds:
    """The order ids that one clientId has used, in rising order, and how each order ended."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._ids = array("q")
        self._ends = bytearray()

    @property
    def next_valid(self) -> int:
        """The lowest id that is greater than every one used."""
        return max(self._first, self._ids[-1] + 1) if self._ids else self._first

    def add(self, order_id: int) -> None:
        """Remembers an id. Raises ValueError unless it is greater than every one before."""
        if self._ids and order_id <= self._ids[-1]:
            raise ValueError(f"order id {order_id} after {self._ids[-1]}")
        self._ids.append(order_id)
        self._ends.append(0)

    def used(self, order_id: int) -> bool:
        """Whether a new order may not have this id: it, or a higher one, was used."""
        return bool(self._ids) and order_id <= self._ids[-1]

    def finish(self, order_id: int, status: str) -> None:
        """Remembers how the order ended; an id that was never added is ignored."""
        at = self._at(order_id)
        if at is not None:
            self._ends[at] = _STATES.index(status)

    def end(self, order_id: int) -> str | None:
        """The final status of that order, "" while it is open, None if there was no such order."""
        at = self._at(order_id)
        return None if at is None else _STATES[self._ends[at]]

    def _at(self, order_id: int) -> int | None:
        at = bisect_left(self._ids, order_id)
        return at if at < len(self._ids) and self._ids[at] == order_id else None
