"""`python -m ibsim`: the stand-in gateway as a command."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ibsim.answers import TIME_FORMS
from ibsim.book import Rules
from ibsim.contracts import KNOWN, Instrument, added
from ibsim.gateway import Settings
from ibsim.hours import Moment, hours_of, moment_of
from ibsim.server import Ports, run
from ibsim.wire import MAX_SERVER_VERSION, MIN_SERVER_VERSION


def _symbol(text: str) -> Instrument:
    name, _, price = text.partition("=")
    try:
        value = Decimal(price)
    except InvalidOperation:
        value = Decimal(0)
    if not name or not value.is_finite() or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PRICE")
    known = {one.key: one for one in KNOWN}.get(name)
    return added(name, value) if known is None else replace(known, price=value)


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time zone") from None
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


def _version(text: str) -> int:
    if not text.isdigit() or not MIN_SERVER_VERSION <= int(text) <= MAX_SERVER_VERSION:
        raise argparse.ArgumentTypeError(f"{text} is not from {MIN_SERVER_VERSION} to {MAX_SERVER_VERSION}")
    return int(text)


def _size(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of shares")
    return value


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="ibsim",
        description="A stand-in IB Gateway: the TWS socket on one port, an HTTP control port beside it."
        " `conformance --against HOST:PORT` compares another gateway with it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument("--host", default="127.0.0.1", help="address to listen on, both ports")
    options.add_argument("--port", type=int, default=4002, help="TWS socket; 0 = any free one")
    options.add_argument("--control-port", type=int, default=4080, help="HTTP control port; 0 = any free one")
    options.add_argument("--journal", type=Path, metavar="FILE", help="keep the journal here, and continue from it")
    options.add_argument("--fsync", action="store_true", help="force each journal write to the disk")
    options.add_argument("--seed", type=int, default=0, help="every random choice replays with it")
    options.add_argument("--fill-delay-ms", type=float, default=0, metavar="MS", help="from taken to filled")
    options.add_argument(
        "--fill-size", type=_size, default=Decimal(0), metavar="N", help="most shares in one execution, 0 = all"
    )
    options.add_argument("--tick-ms", type=float, default=0, metavar="MS", help="random walk of the prices, 0 = off")
    options.add_argument("--account", action="append", metavar="DU1234567", help="an account; may be repeated")
    options.add_argument("--first-id", type=int, default=1, metavar="N", help="a new client's first order id")
    options.add_argument(
        "--symbol", action="append", type=_symbol, default=[], metavar="NAME=PRICE", help="one more stock"
    )
    options.add_argument("--master-client-id", type=int, metavar="N", help="this client sees every client's orders")
    options.add_argument("--zone", type=_zone, default="America/New_York", help="the gateway's time zone")
    options.add_argument("--time-form", choices=TIME_FORMS, default="zoned", help="how execution times are written")
    options.add_argument(
        "--commission", choices=("after", "before"), default="after", help="commission reports, to their execution"
    )
    options.add_argument(
        "--hours", type=_hours, default="always", metavar="09:30-16:00", help="of stocks and options, in the zone"
    )
    options.add_argument(
        "--server-version", type=_version, default=MAX_SERVER_VERSION, metavar="N", help="the highest that it speaks"
    )
    options.add_argument("--daily-restart", type=_moment, metavar="HH:MM", help="restart every day, in the zone")
    options.add_argument("--restart-ms", type=int, default=5000, metavar="MS", help="how long a daily restart takes")
    options.add_argument("--weekly-logout", type=_moment, metavar="'SUN 01:00'", help="down until logged in again")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["conformance"]:
        from ibsim.conformance import main as conformance

        return conformance(words[1:])
    given = parser().parse_args(words)
    instruments = {one.key: one for one in (*KNOWN, *given.symbol)}
    settings = Settings(
        accounts=tuple(given.account or ("DU1234567",)),
        rules=Rules(given.fill_delay_ms / 1000, given.fill_size or None, given.first_id),
        journal=given.journal,
        fsync=given.fsync,
        seed=given.seed,
        tick=given.tick_ms / 1000,
        zone=given.zone,
        time_form=given.time_form,
        commission=given.commission,
        master_client_id=given.master_client_id,
        server_version=given.server_version,
        hours=given.hours,
        daily_restart=given.daily_restart,
        weekly_logout=given.weekly_logout,
        restart_ms=given.restart_ms,
    )
    ports = Ports(given.host, given.port, given.control_port)
    return asyncio.run(run(ports, settings, list(instruments.values())))


if __name__ == "__main__":
    sys.exit(main())
