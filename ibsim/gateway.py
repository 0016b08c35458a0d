"""The gateway: one book, one journal, the sessions, the faults that are on. Carries out what the book says. Thin.

A turn is one chunk of bytes, one tick, or one control call. Everything that it did is in the journal before anyone is
told: `flush` writes the journal first and the sessions after it.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ibsim.book import Book, Rules
from ibsim.contracts import TICK, Instrument, Universe
from ibsim.faults import Faults, Parameters
from ibsim.journal import Journal, Spool
from ibsim.messages import Request
from ibsim.news import entry_of, tell
from ibsim.orders import Happening, Order
from ibsim.records import Record, done_record
from ibsim.requests import SERVED
from ibsim.restore import restore
from ibsim.session import Session

REFUSED_CLOSE = 0.7
"""Seconds between error 326 and the end of the connection."""
WALK = (-2, -1, 0, 0, 1, 2)
"""Steps of the random walk, in ticks."""
FARMS = (
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefil"),
)


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
    master_client_id: int | None = None


class Gateway:
    """All state of one stand-in. `serve` and the control port call it; it calls the sessions."""

    def __init__(self, settings: Settings, instruments: Iterable[Instrument]) -> None:
        self.settings = settings
        self.zone = ZoneInfo(settings.zone)
        self.faults = Faults()
        self.random = random.Random(settings.seed)
        self.sessions: dict[int, Session] = {}
        self.by_client: dict[int, Session] = {}
        self.asking: Session | None = None
        self.journal = Journal(settings.journal, settings.fsync)
        self.done_orders = Spool()
        self.executions = Spool()
        self.book = Book(Universe(instruments), settings.accounts, settings.rules, self._happened)
        self._touched: dict[Session, None] = {}
        self._fills: asyncio.TimerHandle | None = None
        self._day = ""
        self._day_done = 0
        self._last_session = self._restore()

    def _restore(self) -> int:
        today = self._today(self.now())
        self._day = today

        def executed(entry: Record) -> None:
            if self._today(entry["time"]) == today:
                self.executions.append(entry)

        def done(order: Order, entry: Record) -> None:
            at = datetime.fromisoformat(entry["at"]).timestamp()
            self.done_orders.append(done_record(order, at))
            if self._today(at) != today:
                self._day_done = self.done_orders.count

        last = restore(self.book, self.journal.entries(), done, executed)
        if self.journal.seq:
            self.log("restart", reason="the process was started again")
        for order in list(self.book.live.values()):
            if order.sent:
                self.book.work(order, self.now())
            else:
                self.book.submit(order, self.now())
        self.journal.flush()
        return last

    # time

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def _today(self, at: float) -> str:
        return datetime.fromtimestamp(at, self.zone).strftime("%Y%m%d")

    def handshake_time(self) -> str:
        """The gateway's clock as the handshake shows it."""
        return datetime.now(self.zone).strftime("%Y%m%d %H:%M:%S %Z")

    def days_executions(self) -> Spool:
        """The executions since the gateway's midnight."""
        self._roll_day()
        return self.executions

    def days_done_orders(self) -> Iterable[Record]:
        """The orders that ended since the gateway's midnight."""
        self._roll_day()
        return self.done_orders.records(self._day_done)

    def _roll_day(self) -> None:
        today = self._today(self.now())
        if today != self._day:
            self._day = today
            self._day_done = self.done_orders.count
            self.executions.close()
            self.executions = Spool()

    # sessions

    def new_session(self) -> Session:
        """A session for a connection that is being accepted."""
        self._last_session += 1
        return Session(self, self._last_session)

    def connected(self, session: Session) -> None:
        """A client's connection stands; while frozen nobody listens to it."""
        session.since = self.now()
        self.sessions[session.number] = session
        if self.frozen:
            session.transport.pause_reading()

    def start(self, session: Session) -> None:
        """startApi: the clientId is free and the session opens, or it gets 326 and its end."""
        holder = self.by_client.get(session.client_id)
        if holder is not None:
            session.state = "refused"
            self.log(
                "session_refused", session=session.number, client_id=session.client_id, code=326, peer=session.peer
            )
            session.error(326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
            asyncio.get_running_loop().call_later(REFUSED_CLOSE, session.end, "client id already in use")
            return
        session.state = "open"
        self.by_client[session.client_id] = session
        self.log("session_open", session=session.number, client_id=session.client_id, peer=session.peer)
        session.send("managedAccounts", {"accounts": ",".join(self.settings.accounts)})
        session.send("nextValidId", {"orderId": str(self.book.ids(session.client_id).next_valid)})
        for code, text in FARMS:
            session.error(code, text)
        if not self.book.link_up:
            session.error(*LINK_LOST)

    def peer_gone(self, session: Session, reason: str) -> None:
        """The connection ended; a half-open peer's session keeps its clientId."""
        if session.state == "open" and "half_open" in self.faults and not session.reason:
            session.state = "half_open"
            return
        self._close(session, reason)
        self.flush()

    def _close(self, session: Session, reason: str) -> None:
        if session.state == "closed":
            return
        if session.state in ("open", "half_open"):
            if self.by_client.get(session.client_id) is session:
                del self.by_client[session.client_id]
            self.log("session_closed", session=session.number, client_id=session.client_id, reason=reason)
        elif session.state != "refused" and reason != "closed by the client":
            self.log("session_closed", session=session.number, reason=reason)
        session.state = "closed"
        self.sessions.pop(session.number, None)

    def drop(self, session: Session, reason: str) -> None:
        """Ends a session, half-open ones too, and frees its clientId."""
        if session.state == "half_open":
            self._close(session, reason)
        else:
            session.abort(reason)
            self._close(session, reason)

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
            written = self.log(kind, **entry)
            if kind == "execution":
                self.days_executions().append(written)
        if order is not None and order.done:
            self.done_orders.append(done_record(order, self.now()))
        tell(self, what)

    def log(self, kind: str, **fields: Any) -> Record:
        """One journal entry, now."""
        return self.journal.add(self.now(), kind, **fields)

    # the market

    def set_prices(self, prices: Mapping[str, Decimal], sizes: Mapping[str, Decimal] | None = None) -> None:
        """Moves the market by hand. Raises KeyError for an unknown symbol."""
        self.book.set_prices(prices, self.now(), sizes)
        self.flush()

    def walk(self) -> None:
        """One step of the random walk of every price."""
        if self.frozen:
            return
        steps = {
            symbol: max(price + TICK * self.random.choice(WALK), TICK) for symbol, price in self.book.prices.items()
        }
        self.set_prices(steps)

    # the end of a turn

    @property
    def frozen(self) -> bool:
        """The process is deaf: it neither reads nor writes nor accepts."""
        return "freeze" in self.faults

    def touched(self, session: Session, greeting: bool = False) -> None:
        """The session has something to write."""
        if "mute" in self.faults and not greeting:
            session.drop_output()
        else:
            self._touched[session] = None

    def flush(self) -> None:
        """Ends a turn: the journal to disk, then the answers to the clients, then the clock for fills set."""
        due = self.book.advance(self.now())
        self.journal.flush()
        if not self.frozen:
            delay = self.faults.milliseconds("delay") / 1000
            touched, self._touched = self._touched, {}
            for session in touched:
                session.write(delay)
        if self._fills is not None:
            self._fills.cancel()
            self._fills = None
        if due is not None:
            self._fills = asyncio.get_running_loop().call_later(max(due - self.now(), 0.0), self.flush)

    # faults

    def fault_on(self, name: str, given: Mapping[str, Any]) -> Parameters:
        """Breaks something. Raises FaultError."""
        was_on = name in self.faults
        parameters = self.faults.switch_on(name, given)
        self.log("fault", fault=name, on=True, parameters=parameters)
        if name == "link_down" and not was_on:
            self.book.resubmit = parameters["resubmit"]
            self.book.lose_link()
            self.log("link_down")
            self._tell_all(*LINK_LOST)
        elif name == "freeze" and not was_on:
            for session in self.sessions.values():
                if session.state != "half_open":
                    session.transport.pause_reading()
        elif name == "close_sessions":
            for session in list(self.sessions.values()):
                if parameters["client_id"] in (None, session.client_id) and parameters["session"] in (
                    None,
                    session.number,
                ):
                    self.drop(session, "closed by a fault")
        self.flush()
        return parameters

    def fault_off(self, name: str) -> Parameters | None:
        """Mends it; returns its parameters, None if it was not on. Raises FaultError."""
        parameters = self.faults.switch_off(name)
        if parameters is None:
            return None
        self.log("fault", fault=name, on=False)
        if name == "link_down":
            self.log("link_up")
            self._tell_all(*(LINK_BACK_LOST if parameters["data_lost"] else LINK_BACK))
            self.book.restore_link(self.now())
        elif name == "freeze":
            for session in self.sessions.values():
                if session.state != "half_open":
                    session.transport.resume_reading()
        elif name == "half_open":
            for session in [one for one in self.sessions.values() if one.state == "half_open"]:
                self.drop(session, "the dead peer was noticed")
        self.flush()
        return parameters

    def _tell_all(self, code: int, text: str) -> None:
        for session in self.by_client.values():
            session.error(code, text)

    def close(self) -> None:
        """Ends every session and the journal."""
        for session in list(self.sessions.values()):
            self.drop(session, "the gateway ends")
        if self._fills is not None:
            self._fills.cancel()
        self.journal.close()
        self.done_orders.close()
        self.executions.close()


LINK_LOST = (1100, "Connectivity between IBKR and Trader Workstation has been lost.")
LINK_BACK_LOST = (
    1101,
    "Connectivity between IBKR and Trader Workstation has been restored - data lost. All data requests must be"
    " resubmitted.",
)
LINK_BACK = (
    1102,
    "Connectivity between IBKR and Trader Workstation has been restored - data maintained. All data farms are connected.",
)
