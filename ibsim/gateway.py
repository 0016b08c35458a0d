"""The gateway: one book, one journal, the sessions, the faults that are on. Carries out what the book says. Thin.

A turn is one chunk of bytes, one tick, or one control call. Everything that it did is in the journal before anyone is
told: `flush` writes the journal first and the sessions after it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ibsim import breaking
from ibsim.book import Book, Rules
from ibsim.contracts import Instrument, Universe
from ibsim.days import Days
from ibsim.derivatives import derivatives
from ibsim.faults import Faults, Parameters
from ibsim.holding import Held
from ibsim.hours import Moment, hours_of
from ibsim.journal import Journal
from ibsim.messages import Request
from ibsim.news import entry_of, tell
from ibsim.orders import Happening, Order
from ibsim.pricefile import PriceFile
from ibsim.quotes import Quotes
from ibsim.records import done_record
from ibsim.requests import SERVED
from ibsim.restore import restore
from ibsim.session import Session
from ibsim.sessions import Sessions
from ibsim.wire import MAX_SERVER_VERSION

WALK = (-2, -1, 0, 0, 1, 2)
"""Steps of the random walk, in ticks."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a stand-in is started with. Times in seconds."""

    accounts: tuple[str, ...] = ("DU1234567",)
    rules: Rules = field(default_factory=Rules)
    journal: Path | None = None
    fsync: bool = False
    seed: int = 0
    tick: float = 0.0
    zone: str = "America/New_York"
    time_form: str = "zoned"
    commission: str = "after"
    master_client_id: int | None = None
    server_version: int = MAX_SERVER_VERSION
    hours: str = "always"
    derivatives: bool = True
    daily_restart: Moment | None = None
    weekly_logout: Moment | None = None
    restart_ms: int = 5000


@dataclass(slots=True)
class Options:
    """What may be changed while it runs."""

    time_form: str
    commission: str
    """Whether a commission report comes `before` or `after` its execution."""


class Gateway:
    """All state of one stand-in. The sessions and the control port call it; it calls the sessions."""

    def __init__(self, settings: Settings, instruments: Iterable[Instrument]) -> None:
        self.settings = settings
        self.options = Options(settings.time_form, settings.commission)
        self.zone = ZoneInfo(settings.zone)
        self.faults = Faults(settings.seed)
        self.asking: Session | None = None
        self.listener: breaking.Listener | None = None
        self.stale: list[Order] = []
        """What reqOpenOrders shows while the fault `stale_orders` is on."""
        self.bound = 0
        """The last id that client 0 got for an order placed by hand; they go down from -1."""
        today = datetime.fromtimestamp(self.now(), self.zone).date()
        universe = Universe([*instruments, *(derivatives(today) if settings.derivatives else ())])
        self.journal = Journal(settings.journal, settings.fsync)
        self.days = Days(self.zone, self.now(), universe)
        self.quotes = Quotes(self)
        self.held = Held(self)
        self.sessions = Sessions(self)
        self._random = random.Random(f"{settings.seed} walk")
        self._touched: dict[Session, None] = {}
        self._due: asyncio.TimerHandle | None = None
        self._due_at: float | None = None
        hours = hours_of(settings.hours, self.zone)
        self.book = Book(universe, settings.accounts, settings.rules, self._happened, hours)
        self.prices = PriceFile(settings.journal, universe)
        self._restore()

    def _restore(self) -> None:
        """What the journal says happened before this process was started."""
        self.sessions.last = restore(self.book, self.journal.entries(), self.days)
        self.book.market.prices.update(self.prices.read())
        if self.journal.seq:
            self.log("restart", reason="the process was started again")
        now = self.now()
        self.book.at(now)
        for order in self.book.orders:
            self.book.course.resume(order, now)
        self.journal.flush()

    # time

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def handshake_time(self) -> str:
        """The gateway's clock as the handshake shows it."""
        return datetime.now(self.zone).strftime("%Y%m%d %H:%M:%S %Z")

    @property
    def time_form(self) -> str:
        """How execution times are written now."""
        return "unknown" if self.faults.strikes("unknown_zone") else self.options.time_form

    def later(self, seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Does something after so many seconds."""
        return asyncio.get_running_loop().call_later(seconds, action)

    # requests

    def serve(self, session: Session, request: Request) -> None:
        """Answers one request of an open session."""
        self.asking = session
        try:
            if request.fields.get("unserved"):
                self.log("fault", session=session.number, client_id=session.client_id, fault="unserved_request", code=321,
                         request=request.name)  # fmt: skip
                text = f"Error validating request.-'bN' : cause - {request.name} is not served by this stand-in"
                session.error(321, text, int(request.fields["reqId"]))
            else:
                SERVED[request.name](self, session, request.fields)
        finally:
            self.asking = None

    # what the book says

    def _happened(self, what: Happening) -> None:
        order = what.order
        entry = entry_of(what, self.asking)
        if entry is not None:
            kind = entry.pop("kind")
            line = self.journal.add(self.now(), kind, entry)
            if what.execution is not None:
                self.days.execution(line, what.execution.at)
            if what.was is not None and order is not None:
                self.days.corrected(None if order.done else order, entry)
        if order is not None and order.done and what.kind in ("execution", "cancelled", "rejected"):
            self.days.done(done_record(order, self.now()))
        tell(self, what)

    def log(self, kind: str, **fields: Any) -> None:
        """One journal entry, now."""
        self.journal.add(self.now(), kind, fields)

    # the market

    def set_prices(self, prices: Mapping[int, Decimal], sizes: Mapping[int, Decimal] | None = None) -> None:
        """Moves the market by hand, prices by conId."""
        self._move(prices, sizes)
        self.prices.write(self.book.market.prices)
        self.flush()

    def walk(self) -> None:
        """One step of the random walk of every price."""
        if self.frozen:
            return
        market, steps = self.book.market, {}
        for con_id, instrument in self.book.universe.by_con_id.items():
            price = market.price(instrument) + instrument.tick * self._random.choice(WALK)
            steps[con_id] = max(price, instrument.tick)
        self._move(steps, None)
        self.prices.write_now_and_then(market.prices, time.monotonic())
        self.flush()

    def _move(self, prices: Mapping[int, Decimal], sizes: Mapping[int, Decimal] | None) -> None:
        self.book.set_prices(prices, self.now(), sizes)
        for con_id in prices:
            self.quotes.moved(con_id)

    # the end of a turn

    @property
    def frozen(self) -> bool:
        """The process is deaf: it neither reads nor writes nor accepts."""
        return "freeze" in self.faults

    def touched(self, session: Session, greeting: bool = False) -> None:
        """The session has something to write."""
        if not greeting and self.faults.strikes("mute"):
            session.out.forget()
        else:
            self._touched[session] = None

    def flush(self) -> None:
        """Ends a turn: the journal to disk, then the answers to the clients, then the clock for what is due."""
        due = self.book.at(self.now())
        self.journal.flush()
        if self._touched and self.faults.strikes("freeze"):
            pass  # what there is to say waits
        elif not self.frozen:
            delay = self.faults.milliseconds("delay") / 1000
            touched, self._touched = self._touched, {}
            for session in touched:
                session.out.write(delay)
            if touched:
                self.faults.strikes("delay")
        if due == self._due_at:
            return
        if self._due is not None:
            self._due.cancel()
        self._due_at, self._due = due, None
        if due is not None:
            self._due = self.later(max(due - self.now(), 0.0), self._on_time)

    def _on_time(self) -> None:
        self._due, self._due_at = None, None
        self.flush()

    # faults

    def fault_on(self, name: str, given: Mapping[str, Any]) -> Parameters:
        """Breaks something; returns all its parameters. Raises FaultError."""
        return breaking.on(self, name, given)

    def fault_off(self, name: str) -> Parameters | None:
        """Mends it; returns its parameters, None if it was not on. Raises FaultError."""
        return breaking.off(self, name)

    def close(self) -> None:
        """Ends every session and the journal."""
        self.sessions.drop_all("the gateway ends")
        if self._due is not None:
            self._due.cancel()
        self.prices.write(self.book.market.prices)
        self.journal.close()
        self.days.close()
