"""The contracts that the stand-in knows: US stocks on SMART. Pure."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

TICK = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One stock. `price` is where its market starts."""

    symbol: str
    con_id: int
    name: str
    primary_exchange: str
    trading_class: str
    price: Decimal

    def wire(self, exchange: str = "SMART") -> dict[str, str]:
        """The contract's fields as answers carry them."""
        return {
            "conId": str(self.con_id),
            "symbol": self.symbol,
            "secType": "STK",
            "strike": "0.0",
            "exchange": exchange,
            "primaryExchange": self.primary_exchange,
            "currency": "USD",
            "localSymbol": self.symbol,
            "tradingClass": self.trading_class,
        }


def _stock(symbol: str, con_id: int, name: str, exchange: str, price: str) -> Instrument:
    return Instrument(symbol, con_id, name, exchange, "NMS" if exchange == "NASDAQ" else symbol, Decimal(price))


KNOWN = (
    _stock("AAPL", 265598, "APPLE INC", "NASDAQ", "190.00"),
    _stock("AMZN", 3691937, "AMAZON.COM INC", "NASDAQ", "178.00"),
    _stock("GOOG", 208813720, "ALPHABET INC-CL C", "NASDAQ", "165.00"),
    _stock("IBM", 8314, "INTL BUSINESS MACHINES CORP", "NYSE", "185.00"),
    _stock("MSFT", 272093, "MICROSOFT CORP", "NASDAQ", "415.00"),
    _stock("NVDA", 4815747, "NVIDIA CORP", "NASDAQ", "120.00"),
    _stock("SPY", 756733, "SS SPDR S&P 500 ETF TRUST-US", "ARCA", "520.00"),
    _stock("TSLA", 76792991, "TESLA INC", "NASDAQ", "240.00"),
)


def added(symbol: str, price: Decimal) -> Instrument:
    """A stock made up for a test; its conId depends on the symbol only, so that it survives a restart."""
    return Instrument(symbol, 900_000_000 + zlib.crc32(symbol.encode()) % 90_000_000, symbol, "NYSE", symbol, price)


class Universe:
    """Finds instruments the way that a contract request names them."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self.by_symbol = {instrument.symbol: instrument for instrument in instruments}
        self._by_con_id = {instrument.con_id: instrument for instrument in self.by_symbol.values()}

    def find(self, contract: Mapping[str, Any]) -> Instrument | None:
        """The one instrument that a request's contract fields mean, or None."""
        con_id = contract.get("conId") or "0"
        if con_id != "0":
            found = self._by_con_id.get(int(con_id)) if con_id.isascii() and con_id.isdigit() else None
        else:
            found = self.by_symbol.get(contract.get("symbol") or contract.get("localSymbol") or "")
            if contract.get("secType") != "STK":
                return None
        if found is None or contract.get("secType") not in ("", "STK") or contract.get("currency") not in ("", "USD"):
            return None
        if contract.get("exchange") not in ("", "SMART", found.primary_exchange, "ISLAND", "IBKRATS"):
            return None
        return found

    def made(self, symbol: str, con_id: int, price: Decimal) -> Instrument:
        """The instrument of this symbol; one that an earlier run had added is made again."""
        found = self.by_symbol.get(symbol)
        if found is None:
            found = Instrument(symbol, con_id, symbol, "NYSE", symbol, price)
            self.by_symbol[symbol] = self._by_con_id[con_id] = found
        return found

    def matching(self, pattern: str, limit: int = 16) -> list[Instrument]:
        """Instruments whose symbol starts with the pattern or whose name contains it."""
        wanted = pattern.upper()
        hits = [one for one in self.by_symbol.values() if one.symbol.startswith(wanted) or wanted in one.name]
        return hits[:limit]
