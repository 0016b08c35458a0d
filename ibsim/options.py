"""The command's options, each checked with a sentence that says what is wrong."""

import argparse
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from ibsim.answers import TIME_FORMS
from ibsim.contracts import KNOWN, Instrument, added
from ibsim.hours import Moment, hours_of, moment_of
from ibsim.wire import MAX_SERVER_VERSION, MIN_SERVER_VERSION, WireError, number

PROG = "adapter sim"
_DESCRIPTION = """\
A stand-in IB Gateway: the TWS socket on one port, an HTTP control port beside it. Any TWS client can connect.
`adapter sim conformance --against HOST:PORT` compares another gateway with it."""
_LARGEST_ID = (1 << 31) - 1


def _number(text: str) -> Decimal | None:
    try:
        return number(text)
    except WireError:
        return None


def _symbol(text: str) -> Instrument:
    name, _, price = text.partition("=")
    value = _number(price)
    if not re.fullmatch(r"[A-Z0-9. ]{1,20}", name) or value is None or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PRICE, such as ACME=12.50")
    known = {one.key: one for one in KNOWN}.get(name)
    return added(name, value) if known is None else replace(known, price=value)


def _account(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]{2,20}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no account: 2 to 20 letters and digits, such as DU1234567")
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (OSError, ValueError, LookupError):  # OSError: the name of a directory of zones; LookupError: no such zone
        raise argparse.ArgumentTypeError(f"{text!r} is no time zone, such as America/New_York") from None
    return text


def _hours(text: str) -> str:
    try:
        hours_of(text, ZoneInfo("UTC"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _moment(text: str) -> Moment:
    try:
        return moment_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> Decimal:
    value = _number(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of shares")
    return value


def _milliseconds(text: str) -> float:
    value = _number(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds from 0 on")
    return float(value)


class _Whole:
    """A whole number within limits."""

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def __call__(self, text: str) -> int:
        if not re.fullmatch(r"-?\d{1,20}", text, re.ASCII) or not self._least <= int(text) <= self._most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {self._least} to {self._most}")
        return int(text)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, False, []) else action.help


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(prog=PROG, description=_DESCRIPTION, formatter_class=_Help)
    port, identity = _Whole(0, 65535), _Whole(1, _LARGEST_ID)
    version = _Whole(MIN_SERVER_VERSION, MAX_SERVER_VERSION)
    add = options.add_argument
    add("--host", default="127.0.0.1", help="address to listen on, both ports")
    add("--port", type=port, default=4002, help="TWS socket; 0 = any free one")
    add("--control-port", type=port, default=4080, metavar="PORT", help="HTTP control port; 0 = any free one")
    add("--journal", type=Path, metavar="FILE", help="keep the journal here, and continue from it")
    add("--fsync", action="store_true", help="force each journal write to the disk")
    add("--seed", type=int, default=0, metavar="N", help="every random choice replays with it")
    add("--fill-delay-ms", type=_milliseconds, default=0.0, metavar="MS", help="from taken to filled")
    add("--fill-size", type=_size, default=Decimal(0), metavar="N", help="most shares in one execution, 0 = all")
    add("--tick-ms", type=_milliseconds, default=0.0, metavar="MS", help="random walk of the prices, 0 = off")
    add("--account", type=_account, action="append", metavar="DU1234567", help="may be repeated; else DU1234567")
    add("--first-id", type=identity, default=1, metavar="N", help="a new client's first order id")
    add("--symbol", action="append", type=_symbol, default=[], metavar="NAME=PRICE", help="one more stock")
    add("--master-client-id", type=_Whole(0, _LARGEST_ID), metavar="N", help="this client sees every client's orders")
    add("--zone", type=_zone, default="America/New_York", help="the gateway's time zone")
    add("--time-form", choices=TIME_FORMS, default="zoned", help="how execution times are written")
    add("--commission", choices=("after", "before"), default="after", help="commission reports, to their execution")
    add("--hours", type=_hours, default="always", metavar="09:30-16:00", help="of stocks and options, in the zone")
    add("--server-version", type=version, default=MAX_SERVER_VERSION, metavar="N", help="the highest that it speaks")
    add("--daily-restart", type=_moment, metavar="HH:MM", help="restart every day, in the zone")
    add("--restart-ms", type=_Whole(0, 86_400_000), default=5000, metavar="MS", help="how long a daily restart takes")
    add("--weekly-logout", type=_moment, metavar="'SUN 01:00'", help="down until logged in again")
    return options
