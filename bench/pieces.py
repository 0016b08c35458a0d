"""What single pieces of work cost the leader, in processor time: what docs/performance.md says of them.

    python -m bench.pieces                    lists of open orders, the comparison, ids and times
    python -m bench.pieces --open 9000

A list is read through the real session with the stand-in, as often as it takes to see that it is no accident; of the rest the
least of many repetitions counts, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import rows
from bench.sim_speed import ACKNOWLEDGED, Client, gateway
from engine.broker import Admitted, Fact
from engine.broker_ib import IbBroker
from engine.clock import iso, utcnow
from engine.events import Kind
from engine.reference import order_id
from reconcile.diff import compare
from tests.unit.book_factory import ME, Ledger, done, shown, snap

TIMES = 5


async def lists(count: int) -> dict[str, float]:
    """Milliseconds of our processor for a list of so many open orders: heard for the first time, and repeated (the median)."""
    facts: list[Fact] = []
    with tempfile.TemporaryDirectory() as directory:
        async with gateway(Path(directory)) as server:
            client = await Client.connect(server.port)
            await client.place(count, ACKNOWLEDGED, lmtPrice="100", action="BUY")
            broker = IbBroker("127.0.0.1", server.port, 33, facts.append)
            if not isinstance(admitted := await broker.connect(5.0), Admitted):
                raise SystemExit(f"the stand-in did not admit us: {admitted}")
            taken = [await _cpu_of_list(broker, count) for _ in range(TIMES + 1)]
            broker.abort()
    first, *again = taken
    return {"first_ms": first, "repeated_ms": sorted(again)[TIMES // 2]}


async def _cpu_of_list(broker: IbBroker, count: int) -> float:
    began = time.process_time()
    found = await broker.open_orders(60.0)
    if len(found) != count:
        raise SystemExit(f"the list has {len(found)} orders, {count} were placed")
    return round((time.process_time() - began) * 1000, 1)


def comparison(count: int) -> dict[str, float]:
    """Microseconds for an open order on which both sides agree, and for one that both say has ended."""
    found = {}
    for name, ended in (("open_us", False), ("ended_us", True)):
        ledger = Ledger()
        ledger.session(1)
        facts = []
        for number in range(count):
            oid = ledger.working(f"k{number}", perm_id=number + 1, broker_order_id=number + 1)
            if not ended:
                facts.append(shown(oid, number + 1, broker_order_id=number + 1))
            else:
                facts.append(done(oid, "Cancelled", number + 1))
                ledger.add(Kind.ORDER_CANCELLED, oid, status="Cancelled", reason="cancelled")
        found[name] = _least(partial(compare, ledger.book, snap(*facts), ME), 1, count)
    return found


def small() -> dict[str, float]:
    """Microseconds for an order's id derived anew, and for a time as text."""
    keys, now = itertools.count(), utcnow()
    return {
        "order_id_us": _least(lambda: order_id("desk1", "alice", f"k{next(keys)}"), 10_000),
        "time_us": _least(lambda: iso(now), 10_000),
    }


def _least(work: Callable[[], Any], turns: int, divided_by: int = 1) -> float:
    least = float("inf")
    for _ in range(TIMES):
        began = time.process_time()
        for _ in range(turns):
            work()
        least = min(least, time.process_time() - began)
    return round(least / turns / divided_by * 1e6, 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.pieces", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--open", type=int, default=9000, help="open orders in the list (default 9000)")
    parser.add_argument("--compared", type=int, default=5000, help="orders that are compared (default 5000)")
    options = parser.parse_args()
    figures = {
        "list": asyncio.run(lists(options.open)), "compare": comparison(options.compared), "one": small(),
    }  # fmt: skip
    table = Table("what", "figure")
    for row in rows(figures):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
