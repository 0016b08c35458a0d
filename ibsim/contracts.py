"""Instruments and how a contract request finds them: stocks, futures, options, currency pairs. Pure."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ibsim.wire import WireError, number

TICK = Decimal("0.01")
ONE = Decimal(1)
SEC_TYPES = frozenset({"STK", "FUT", "OPT", "CASH"})
_RIGHTS = {"C": "C", "CALL": "C", "P": "P", "PUT": "P"}


@dataclass(frozen=True, slots=True)
class Instrument:
    """One contract. `price` is where its market starts; `key` is its name in the prices of the control port."""

    symbol: str
    con_id: int
    name: str
    primary_exchange: str
    trading_class: str
    price: Decimal
    sec_type: str = "STK"
    currency: str = "USD"
    local_symbol: str = ""
    tick: Decimal = TICK
    multiplier: Decimal = ONE
    expiry: str = ""
    """The last trading day, YYYYMMDD; empty for what does not expire."""
    strike: Decimal = Decimal(0)
    right: str = ""
    key: str = ""
    values: Mapping[str, str] = field(init=False, repr=False, compare=False)
    """The contract's fields as answers carry them, on its usual route."""

    def __post_init__(self) -> None:
        if not self.local_symbol:
            object.__setattr__(self, "local_symbol", self.symbol)
        if not self.key:
            usual = self.sec_type != "STK" or self.currency == "USD"
            object.__setattr__(self, "key", self.local_symbol if usual else f"{self.symbol}.{self.primary_exchange}")
        object.__setattr__(self, "values", self.wire(self.route))

    @property
    def smart(self) -> bool:
        """Whether it is routed by SMART."""
        return self.sec_type in ("STK", "OPT")

    @property
    def route(self) -> str:
        """The exchange that orders for it usually name."""
        return "SMART" if self.smart else self.primary_exchange

    @property
    def exchanges(self) -> tuple[str, ...]:
        """Every exchange that a request may name for it."""
        if not self.smart:
            return (self.primary_exchange,)
        more = ("ISLAND", "IBKRATS") if self.sec_type == "STK" else ("AMEX",)
        return ("SMART", self.primary_exchange, *more)

    def wire(self, exchange: str) -> dict[str, str]:
        """The contract's fields as answers carry them, on this exchange."""
        return {
            "conId": str(self.con_id),
            "symbol": self.symbol,
            "secType": self.sec_type,
            "lastTradeDateOrContractMonth": self.expiry,
            "strike": format(self.strike, "f") if self.strike else "0.0",
            "multiplier": "" if self.multiplier == 1 else format(self.multiplier, "f"),
            "right": self.right,
            "exchange": exchange,
            "primaryExchange": self.primary_exchange if self.sec_type == "STK" else "",
            "currency": self.currency,
            "localSymbol": self.local_symbol,
            "tradingClass": self.trading_class,
        }

    def record(self) -> dict[str, str]:
        """What a journal keeps, to make the same instrument again."""
        return {
            **self.wire(""),
            "name": self.name,
            "primaryExchange": self.primary_exchange,
            "tick": format(self.tick, "f"),
        }


def instrument_of(record: Mapping[str, str], price: Decimal) -> Instrument:
    """The instrument of a record."""
    return Instrument(
        symbol=record["symbol"],
        con_id=int(record["conId"]),
        name=record["name"],
        primary_exchange=record["primaryExchange"],
        trading_class=record["tradingClass"],
        price=price,
        sec_type=record["secType"],
        currency=record["currency"],
        local_symbol=record["localSymbol"],
        tick=Decimal(record["tick"]),
        multiplier=Decimal(record["multiplier"] or 1),
        expiry=record["lastTradeDateOrContractMonth"],
        strike=Decimal(record["strike"]),
        right=record["right"],
    )


def _stock(symbol: str, con_id: int, name: str, exchange: str, price: str, currency: str = "USD") -> Instrument:
    trading_class = "NMS" if exchange == "NASDAQ" else symbol
    return Instrument(symbol, con_id, name, exchange, trading_class, Decimal(price), currency=currency)


KNOWN = (
    _stock("AAPL", 265598, "APPLE INC", "NASDAQ", "190.00"),
    _stock("AMZN", 3691937, "AMAZON.COM INC", "NASDAQ", "178.00"),
    _stock("GOOG", 208813720, "ALPHABET INC-CL C", "NASDAQ", "165.00"),
    _stock("IBM", 8314, "INTL BUSINESS MACHINES CORP", "NYSE", "185.00"),
    _stock("MSFT", 272093, "MICROSOFT CORP", "NASDAQ", "415.00"),
    _stock("NVDA", 4815747, "NVIDIA CORP", "NASDAQ", "120.00"),
    _stock("SPY", 756733, "SS SPDR S&P 500 ETF TRUST-US", "ARCA", "520.00"),
    _stock("TSLA", 76792991, "TESLA INC", "NASDAQ", "240.00"),
    _stock("AAPL", 38708077, "APPLE INC", "MEXI", "3300.00", "MXN"),
    _stock("IBM", 39832875, "INTL BUSINESS MACHINES CORP", "IBIS", "170.00", "EUR"),
)
"""Stocks; two symbols have a second listing, so that a contract without a currency is ambiguous."""


def made_id(name: str) -> int:
    """A conId that depends on the name only, so that it survives a restart."""
    return 900_000_000 + zlib.crc32(name.encode()) % 90_000_000


def added(symbol: str, price: Decimal) -> Instrument:
    """A stock made up for a test."""
    return Instrument(symbol, made_id(symbol), symbol, "NYSE", symbol, price)


class Universe:
    """Finds instruments the way that a contract request names them."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self.by_key: dict[str, Instrument] = {}
        self.by_con_id: dict[int, Instrument] = {}
        self._by_name: dict[str, list[Instrument]] = {}
        self._found: dict[tuple[Any, ...], Sequence[Instrument]] = {}
        for instrument in instruments:
            self.add(instrument)

    def add(self, instrument: Instrument) -> Instrument:
        """Adds an instrument and returns it; if one of the same conId is known, that one stays and is returned."""
        known = self.by_con_id.setdefault(instrument.con_id, instrument)
        if known is instrument:
            self.by_key[instrument.key] = instrument
            for name in {instrument.symbol, instrument.local_symbol}:
                self._by_name.setdefault(name, []).append(instrument)
            self._found.clear()
        return known

    def find(self, contract: Mapping[str, Any]) -> Sequence[Instrument]:
        """Every instrument that a request's contract fields can mean; exactly one if they are unambiguous."""
        asked = tuple([contract.get(name) or "" for name in _ASKED])
        found = self._found.get(asked)
        if found is None:
            found = tuple(self._match(dict(zip(_ASKED, asked, strict=True))))
            if len(self._found) >= 1024:
                self._found.clear()
            self._found[asked] = found
        return found

    def _match(self, asked: dict[str, str]) -> Iterable[Instrument]:
        con_id = asked["conId"]
        if con_id not in ("", "0"):
            known = (
                self.by_con_id.get(int(con_id)) if con_id.isascii() and con_id.isdigit() and len(con_id) < 20 else None
            )
            return [known] if known is not None and _agrees(known, asked, ("secType", "currency", "exchange")) else []
        if asked["secType"] not in SEC_TYPES:
            return []
        named = self._by_name.get(asked["localSymbol"] or asked["symbol"], ())
        return [one for one in named if _agrees(one, asked, _TESTS)]

    def matching(self, pattern: str, limit: int = 16) -> list[Instrument]:
        """Stocks whose symbol starts with the pattern or whose name contains it."""
        wanted = pattern.upper()
        stocks = [one for one in self.by_key.values() if one.sec_type == "STK"]
        return [one for one in stocks if one.symbol.startswith(wanted) or wanted in one.name][:limit]


def _agrees(one: Instrument, asked: Mapping[str, str], tests: Iterable[str]) -> bool:
    return all(not asked[name] or _TESTS[name](one, asked[name]) for name in tests)


def _number(text: str) -> Decimal | None:
    try:
        return number(text)
    except WireError:
        return None


_TESTS: dict[str, Callable[[Instrument, str], bool]] = {
    "symbol": lambda one, text: text in (one.symbol, one.local_symbol),
    "secType": lambda one, text: text == one.sec_type,
    "lastTradeDateOrContractMonth": lambda one, text: len(text) >= 6 and one.expiry.startswith(text[:8]),
    "strike": lambda one, text: _number(text) in (0, one.strike),
    "right": lambda one, text: text == "?" or _RIGHTS.get(text) == one.right,
    "multiplier": lambda one, text: _number(text) == one.multiplier,
    "exchange": lambda one, text: text in one.exchanges,
    "primaryExchange": lambda one, text: text in one.exchanges,
    "currency": lambda one, text: text == one.currency,
    "localSymbol": lambda one, text: text == one.local_symbol,
    "tradingClass": lambda one, text: text == one.trading_class,
}
_ASKED = ("conId", *_TESTS)
