"""What the gateway remembers of the present day: its executions and its completed orders; older ones are on disk only."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from ibsim.contracts import Universe
from ibsim.hours import Moment
from ibsim.journal import Spool, encoded
from ibsim.orders import Order
from ibsim.records import Record, done_record, order_of


class Days:
    """The day's executions, and every order that is over, with the point at which the day's begin."""

    def __init__(self, zone: ZoneInfo, now: float, universe: Universe) -> None:
        self._zone = zone
        self._universe = universe
        self._day = ""
        self._ends = 0.0
        self._executions = Spool()
        self._done = Spool()
        self._first_done = 0
        self._amended: dict[int, Record] = {}

        self._begin(now)

    def _begin(self, now: float) -> None:
        """The day of this moment is the present one."""
        self._day = self._date(now)
        self._ends = Moment(0, 0).after(now, self._zone)

    def _date(self, at: float) -> str:
        return datetime.fromtimestamp(at, self._zone).strftime("%Y%m%d")

    # what happens

    def execution(self, line: bytes, at: float) -> None:
        """Remembers an `execution` or `correction` entry that was just written."""
        self.roll(at)
        self._executions.append_line(line)

    def done(self, record: Record) -> None:
        """Remembers an order that is over."""
        self._done.append(record)

    def corrected(self, order: Order | None, entry: Record) -> None:
        """An execution was corrected: an order that is over (`order` is None) has other figures since."""
        if order is not None:
            return
        for record in self.all_done_orders():
            if record["perm_id"] == entry["perm_id"]:
                over, shares, was = order_of(record, self._universe), Decimal(entry["quantity"]), entry["was"]
                over.filled += shares - Decimal(was["quantity"])
                over.cost += shares * Decimal(entry["price"]) - Decimal(was["quantity"]) * Decimal(was["price"])
                self._amended[over.perm_id] = done_record(over, record["done_at"])

    def roll(self, now: float) -> None:
        """Begins a new day if midnight has passed."""
        if now >= self._ends:
            self._begin(now)
            self.midnight()

    def midnight(self) -> None:
        """Executions and completed orders up to now are of the past."""
        self._first_done = self._done.count
        self._executions.close()
        self._executions = Spool()

    # from the journal, when the process is started again

    def executed(self, entry: Record) -> None:
        """An `execution` or `correction` entry of an earlier process."""
        if self._date(entry["time"]) == self._day:
            self._executions.append_line(encoded(entry))

    def over(self, order: Order, entry: Record) -> None:
        """An order ended in an earlier process, with this entry."""
        at = datetime.fromisoformat(entry["at"]).timestamp()
        self._done.append(done_record(order, at))
        if self._date(at) != self._day:
            self._first_done = self._done.count

    # what is shown

    def executions(self, now: float) -> Iterator[Record]:
        """The executions since the gateway's midnight."""
        self.roll(now)
        return self._executions.records()

    def done_orders(self, now: float) -> Iterator[Record]:
        """The orders that ended since the gateway's midnight."""
        self.roll(now)
        return self._done_after(self._first_done)

    def all_done_orders(self) -> Iterator[Record]:
        """Every order that is over."""
        return self._done_after(0)

    def _done_after(self, number: int) -> Iterator[Record]:
        for record in self._done.records(number):
            yield self._amended.get(record["perm_id"], record)

    def close(self) -> None:
        """Closes the files."""
        self._executions.close()
        self._done.close()
