"""`python -m ibsim`: the stand-in gateway as a command."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ibsim.answers import TIME_FORMS
from ibsim.book import Rules
from ibsim.contracts import KNOWN, Instrument, added
from ibsim.gateway import Settings
from ibsim.server import Ports, run


def _symbol(text: str) -> Instrument:
    name, _, price = text.partition("=")
    try:
        value = Decimal(price)
    except InvalidOperation:
        value = Decimal(0)
    if not name or not value.is_finite() or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PRICE")
    known = {one.symbol: one for one in KNOWN}.get(name)
    if known is None:
        return added(name, value)
    return Instrument(known.symbol, known.con_id, known.name, known.primary_exchange, known.trading_class, value)


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time zone") from None
    return text


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
        description="A stand-in IB Gateway: the TWS socket on one port, an HTTP control port beside it.",
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
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    given = parser().parse_args(arguments)
    instruments = {one.symbol: one for one in (*KNOWN, *given.symbol)}
    settings = Settings(
        accounts=tuple(given.account or ("DU1234567",)),
        rules=Rules(given.fill_delay_ms / 1000, given.fill_size or None, given.first_id),
        journal=given.journal,
        fsync=given.fsync,
        seed=given.seed,
        tick=given.tick_ms / 1000,
        zone=given.zone,
        time_form=given.time_form,
        master_client_id=given.master_client_id,
    )
    ports = Ports(given.host, given.port, given.control_port)
    return asyncio.run(run(ports, settings, list(instruments.values())))


if __name__ == "__main__":
    sys.exit(main())
