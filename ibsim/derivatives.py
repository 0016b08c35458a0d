"""Futures, options and currency pairs whose expiries lie ahead of a given day. Pure."""

from datetime import date, timedelta
from decimal import Decimal

from ibsim.contracts import KNOWN, Instrument, made_id

_MONTHS = "FGHJKMNQUVXZ"
_FUTURES = (
    ("ES", "E-mini S&P 500", "CME", "50", "0.25", "5200.00", 3),
    ("MES", "Micro E-Mini S&P 500 Stock Price Index", "CME", "5", "0.25", "5200.00", 3),
    ("NQ", "E-mini NASDAQ 100", "CME", "20", "0.25", "18000.00", 3),
    ("CL", "Light Sweet Crude Oil", "NYMEX", "1000", "0.01", "75.00", 1),
)
"""Symbol, name, exchange, multiplier, tick, price, months from one expiry to the next."""
_PAIRS = (
    ("EUR", "USD", 12087792, "European Monetary Union Euro", "1.0850", "0.00005"),
    ("GBP", "USD", 12087797, "British pound", "1.2700", "0.00005"),
    ("USD", "JPY", 15016059, "United States dollar", "150.00", "0.005"),
)
_OPTIONS_ON = ("AAPL", "SPY")
_EXPIRIES = 3
_STRIKES = (-2, -1, 0, 1, 2)


def third_friday(year: int, month: int) -> date:
    """The usual last trading day of a month's contracts."""
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


def _expiries(today: date, months: int) -> list[date]:
    """The next third Fridays, at least five days ahead, in every month that `months` divides."""
    found: list[date] = []
    at = today.year * 12 + today.month - 1
    while len(found) < _EXPIRIES:
        year, month = divmod(at, 12)
        day = third_friday(year, month + 1)
        if (month + 1) % months == 0 and day >= today + timedelta(days=5):
            found.append(day)
        at += 1
    return found


def _future(root: tuple[str, str, str, str, str, str, int], day: date) -> Instrument:
    symbol, name, exchange, multiplier, tick, price, _ = root
    local = f"{symbol}{_MONTHS[day.month - 1]}{day.year % 10}"
    return Instrument(
        symbol, made_id(f"FUT {local} {day.year}"), name, exchange, symbol, Decimal(price), "FUT",
        local_symbol=local, tick=Decimal(tick), multiplier=Decimal(multiplier), expiry=f"{day:%Y%m%d}",
    )  # fmt: skip


def _option(under: Instrument, day: date, strike: int, right: str) -> Instrument:
    local = f"{under.symbol:<6}{day:%y%m%d}{right}{strike * 1000:08d}"
    inner = under.price - strike if right == "C" else strike - under.price
    price = max(inner, Decimal(0)) + Decimal("4.00")
    return Instrument(
        under.symbol, made_id(f"OPT {local}"), under.name, "CBOE", under.symbol, price, "OPT",
        local_symbol=local, multiplier=Decimal(100), expiry=f"{day:%Y%m%d}", strike=Decimal(strike), right=right,
    )  # fmt: skip


def _pair(base: str, quote: str, con_id: int, name: str, price: str, tick: str) -> Instrument:
    local = f"{base}.{quote}"
    return Instrument(
        base, con_id, name, "IDEALPRO", local, Decimal(price), "CASH",
        currency=quote, local_symbol=local, tick=Decimal(tick),
    )  # fmt: skip


def derivatives(today: date) -> list[Instrument]:
    """What is listed on this day beside the stocks."""
    found = [_future(root, day) for root in _FUTURES for day in _expiries(today, root[6])]
    for under in KNOWN:
        if under.symbol in _OPTIONS_ON and under.currency == "USD":
            middle = int(under.price / 5) * 5
            found += [
                _option(under, day, middle + 5 * step, right)
                for day in _expiries(today, 1)
                for step in _STRIKES
                for right in "CP"
            ]
    return found + [_pair(*pair) for pair in _PAIRS]
