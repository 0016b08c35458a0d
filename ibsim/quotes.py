"""Market data: snapshots and streaming ticks for a quote. Thin."""

from decimal import Decimal
from typing import TYPE_CHECKING

from ibsim.contracts import Instrument
from ibsim.session import Session
from ibsim.wire import plain

if TYPE_CHECKING:
    from ibsim.gateway import Gateway

MAX_LINES = 100
"""Market data lines that one session may have; the next one gets error 101."""
SIZE = "100"
_PRICES = {"bid": 1, "ask": 2, "last": 4, "high": 6, "low": 7, "close": 9}
_SIZES = {"bid": 0, "ask": 3, "last": 5}
_DELAYED = {1: 66, 2: 67, 4: 68, 0: 69, 3: 70, 5: 71, 6: 72, 7: 73, 8: 74, 9: 75}
"""Delayed data comes under other tick types."""

Line = tuple[Session, int]


class Quotes:
    """Who watches which contract."""

    def __init__(self, gateway: "Gateway") -> None:
        self.gateway = gateway
        self._watched: dict[int, dict[Line, None]] = {}
        self._lines: dict[Line, Instrument] = {}
        self._close: dict[int, Decimal] = {}

    def ask(self, session: Session, request: int, instrument: Instrument, snapshot: bool) -> None:
        """reqMktData: the quote now, then, unless it is a snapshot, every change of it."""
        line = session, request
        if line in self._lines:
            session.error(102, "Duplicate ticker id", request)
            return
        if sum(1 for one, _ in self._lines if one is session) >= MAX_LINES:
            session.error(101, "Max number of tickers has been reached", request)
            return
        about = {"reqId": str(request)}
        session.send("marketDataType", {**about, "marketDataType": str(session.data_type)})
        session.send("tickReqParams", {**about, "minTick": plain(instrument.tick), "snapshotPermissions": "3"})
        self._quote(line, instrument, whole=True)
        if snapshot:
            session.send("tickSnapshotEnd", about)
            return
        self._lines[line] = instrument
        self._watched.setdefault(instrument.con_id, {})[line] = None

    def cancel(self, session: Session, request: int) -> None:
        """cancelMktData; nothing happens if there is no such line."""
        instrument = self._lines.pop((session, request), None)
        if instrument is not None:
            del self._watched[instrument.con_id][session, request]

    def forget(self, session: Session) -> None:
        """The session has ended."""
        for one, request in [line for line in self._lines if line[0] is session]:
            self.cancel(one, request)

    def moved(self, con_id: int) -> None:
        """The price of a contract changed."""
        for line in list(self._watched.get(con_id, ())):
            self._quote(line, self._lines[line], whole=False)

    def _quote(self, line: Line, instrument: Instrument, whole: bool) -> None:
        session, request = line
        price = self.gateway.book.market.price(instrument)
        close = self._close.setdefault(instrument.con_id, price)
        prices = {"bid": price - instrument.tick, "ask": price + instrument.tick, "last": price}
        if whole:
            prices.update(high=max(price, close), low=min(price, close), close=close)
        for name, value in prices.items():
            size = SIZE if name in _SIZES else "0"
            self._send(session, "tickPrice", request, _PRICES[name], {"price": plain(value), "size": size})
            if name in _SIZES:
                self._send(session, "tickSize", request, _SIZES[name], {"size": size})
        if whole:
            self._send(session, "tickSize", request, 8, {"size": "1000000"})

    def _send(self, session: Session, name: str, request: int, kind: int, values: dict[str, str]) -> None:
        shown = _DELAYED[kind] if session.data_type in (3, 4) else kind
        session.send(name, {"reqId": str(request), "tickType": str(shown), **values})
