"""`conformance --against HOST:PORT`: plays scenarios on another gateway and compares what came back with the stand-in.

Small orders far from the market on a paper account, each cancelled in the end. A live account is refused.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ibsim.contracts import KNOWN
from ibsim.gateway import Settings
from ibsim.lab import Lab, LiveAccountError, Observed, Plan
from ibsim.options import PROG
from ibsim.scenarios import SCENARIOS
from ibsim.server import Ports, Stand
from ibsim.wire import WireError, number

LIVE_PORTS = frozenset({7496, 4001, 4003})
"""Where live accounts usually are: TWS, Gateway, the usual container."""
NOT_SEEN = "not seen"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _price(text: str) -> str:
    try:
        value = number(text)
    except WireError:
        value = None
    if value is None or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a price")
    return text


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(prog=f"{PROG} conformance", description=__doc__)
    options.add_argument("--against", type=_address, required=True, metavar="HOST:PORT", help="the gateway to look at")
    options.add_argument("--symbol", default="AAPL", help="a US stock to place orders for")
    options.add_argument("--price", type=_price, help="a limit far below the market; else half of its quote")
    options.add_argument("--client-id", type=int, default=7101, metavar="N", help="this and the next two are used")
    options.add_argument(
        "--patience", type=_seconds, default=5.0, metavar="S", help="seconds until silence is an answer"
    )
    options.add_argument(
        "--quiet", type=_seconds, default=1.0, metavar="S", help="silence that ends a list of callbacks"
    )
    options.add_argument("--trade", action="store_true", help="also buy one share at the market, and sell it again")
    options.add_argument("--record", type=Path, metavar="FILE", help="write all that came back there, as JSON")
    options.add_argument("--json", action="store_true", help="print the comparison as JSON")
    return options


def _progress(text: str) -> None:
    """One line that is written over, for a person who waits."""
    if sys.stderr.isatty():
        print(f"\r{text:60}", end="" if text else "\r", file=sys.stderr, flush=True)


async def observe(host: str, port: int, plan: Plan, name: str = "gateway") -> Lab:
    """Plays every scenario; what was observed is in the lab. Raises LiveAccountError, OSError."""
    lab = Lab(host, port, plan)
    try:
        await lab.admit()
        for scenario in SCENARIOS:
            if plan.trade or not scenario.__name__.startswith("trade"):
                _progress(f"{name}: {scenario.__name__.replace('_', ' ')} ...")
                await scenario(lab)
    finally:
        await lab.clean_up()
        _progress("")
    return lab


def compare(theirs: Observed, ours: Observed) -> list[dict[str, Any]]:
    """One line for each thing that either showed: `result` is equal, differs or not seen."""
    lines = []
    for name in dict.fromkeys([*ours, *theirs]):
        one, other = theirs.get(name), ours.get(name)
        missing = one is None or other is None
        result = NOT_SEEN if missing else "equal" if one == other else "differs"
        lines.append({"what": name, "result": result, "gateway": one, "stand_in": other})
    return lines


async def _run(given: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    host, port = given.against
    plan = Plan(given.symbol, given.price or "", given.client_id, given.patience, given.quiet, given.trade)
    theirs = await observe(host, port, plan)
    async with Stand(Ports(port=0, control=0), Settings(), list(KNOWN)) as stand:
        ours = await observe("127.0.0.1", stand.port, plan, "stand-in")
    about: dict[str, Any] = {"gateway": f"{host}:{port}", "at": datetime.now(UTC).isoformat(), "symbol": given.symbol}
    about["next_order_id"] = {"before": theirs.first_id, "after": theirs.next_id}
    return compare(theirs.observed, ours.observed), about


def _table(lines: list[dict[str, Any]]) -> str:
    rows = []
    for line in lines:
        rows.append(f"{line['result']:8}  {line['what']}")
        if line["result"] != "equal":
            rows += [
                f"          gateway:  {json.dumps(line['gateway'])}",
                f"          stand-in: {json.dumps(line['stand_in'])}",
            ]
    counts = {result: sum(line["result"] == result for line in lines) for result in ("equal", "differs", NOT_SEEN)}
    rows.append(", ".join(f"{count} {result}" for result, count in counts.items()))
    return "\n".join(rows)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 0 if nothing differs, 1 if something does, 2 if it was refused or cannot run."""
    given = parser().parse_args(arguments)
    if given.against[1] in LIVE_PORTS:
        print(
            f"{PROG} conformance: port {given.against[1]} is a live account's; name a paper account's", file=sys.stderr
        )
        return 2
    try:
        lines, about = asyncio.run(_run(given))
    except LiveAccountError as error:
        print(f"{PROG} conformance: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{PROG} conformance: cannot reach {':'.join(map(str, given.against))}: {error}", file=sys.stderr)
        return 2
    if given.record is not None:
        given.record.write_text(json.dumps({**about, "compared": lines}, indent=1) + "\n")
    print(json.dumps({**about, "compared": lines}) if given.json else _table(lines))
    return 0 if all(line["result"] == "equal" for line in lines) else 1
