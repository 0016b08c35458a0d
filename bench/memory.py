"""Drive the fold with a million orders and print what the process weighs: `python -m bench.memory [--orders N] [--keep N]`.

Each order is accepted and worked; then one half is filled, with a commission, and the other half cancelled; a few hundred are
open. What is measured is the resident set of a process with one replica's book; the tables that people query are taken to keep
up, as the projector makes them.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.book import Book
from engine.events import Event, Kind
from engine.reference import order_id

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
OPEN = 300
SYMBOLS = 50


def main(argv: list[str] | None = None) -> int:
    """0 when memory stayed flat: the last half added less than 10 % and 32 MB."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--keep", type=int, default=20_000, help="orders that have ended and stay in memory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--results", action="store_true", help="put the figures into bench/results.json")
    arguments = parser.parse_args(argv)
    book, samples = Book(arguments.keep), []
    every, began, number = max(1, arguments.orders // 10), time.process_time(), 0
    print(
        f"{'orders':>10} {'events':>10} {'RSS MB':>8} {'in memory':>10} {'left':>10} {'CPU us/event':>13}",
        file=sys.stderr,
    )
    for number, event in _day(arguments.orders):
        book.apply(event)
        if event.seq % 400 == 0:
            book.projected_to(event.seq)
        if number % every == 0 and event.kind == Kind.ORDER_ACCEPTED:
            samples.append(_sample(book, number, time.process_time() - began))
            _say(samples[-1])
    half, last = samples[len(samples) // 2 - 1]["rss_mb"], samples[-1]["rss_mb"]
    flat = last - half < min(32.0, half * 0.1)
    if arguments.results:
        from bench.failover import keep  # not before: it would weigh in the figures

        keep("memory", {"keep": arguments.keep, "orders": number, "samples": samples, "flat": flat})
    if arguments.json:
        print(json.dumps({"keep": arguments.keep, "samples": samples, "flat": flat}))
    print(
        f"the second half added {last - half:.1f} MB to {half:.1f}: {'flat' if flat else 'NOT flat'}", file=sys.stderr
    )
    return 0 if flat else 1


def _day(orders: int) -> Iterator[tuple[int, Event]]:
    """The events of so many orders, with the number of the order that each is about."""
    seq, working = 0, deque[int]()
    for n in range(1, orders + 1):
        working.append(n)
        for kind, oid, payload in (*_begin(n), *(_end(working.popleft()) if len(working) > OPEN else ())):
            seq += 1
            at = NOON + timedelta(milliseconds=seq)
            yield n, Event(seq, 1, kind, payload, at, oid, "local" if oid else None, f"c{n}", f"e{seq}")


Made = tuple[Kind, str | None, dict[str, Any]]


def _begin(n: int) -> Iterator[Made]:
    oid, symbol = order_id("bench", "local", str(n)), f"S{n % SYMBOLS}"
    body = {
        "client_order_id": f"s1-{n:09}", "symbol": symbol, "side": _side(n), "quantity": "10", "order_type": "LMT",
        "limit_price": "1",
    }  # fmt: skip
    yield Kind.ORDER_ACCEPTED, oid, body | {
        "body": body, "account": "DU1", "stop_price": None, "tif": "DAY", "sec_type": "STK", "exchange": "SMART", "currency": "USD",
        "valid_until": None, "session": 1, "broker_order_id": n,
    }  # fmt: skip
    yield Kind.ORDER_WORKING, oid, {"status": "Submitted", "perm_id": 900_000_000 + n, "con_id": n % SYMBOLS + 1}


def _end(n: int) -> Iterator[Made]:
    oid = order_id("bench", "local", str(n))
    if n % 2 == 0:
        yield Kind.ORDER_CANCELLED, oid, {"reason": "cancelled", "perm_id": 900_000_000 + n}
        return
    exec_id = f"0000e0d5.{n:08x}.01.01"
    yield Kind.EXECUTION, oid, {
        "exec_id": exec_id, "account": "DU1", "con_id": n % SYMBOLS + 1, "symbol": f"S{n % SYMBOLS}", "side": _side(n),
        "quantity": "10", "price": "1.01", "exchange": "SMART", "perm_id": 900_000_000 + n, "at": "2026-01-02T12:00:00.000000Z",
    }  # fmt: skip
    yield Kind.COMMISSION, None, {"exec_id": exec_id, "commission": "0.35", "currency": "USD", "realized_pnl": None}


def _side(n: int) -> str:
    return "BUY" if n // SYMBOLS % 2 else "SELL"


def _sample(book: Book, orders: int, seconds: float) -> dict[str, float]:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        pages = int(statm.read().split()[1])
    return {
        "orders": orders, "events": book.seq, "rss_mb": round(pages * 4096 / 1e6, 1), "in_memory": len(book.orders),
        "left": book.evicted.orders, "us_per_event": round(seconds / book.seq * 1e6, 1),
    }  # fmt: skip


def _say(s: dict[str, float]) -> None:
    print(f"{s['orders']:>10,} {s['events']:>10,} {s['rss_mb']:>8} {s['in_memory']:>10,} {s['left']:>10,} {s['us_per_event']:>13}",
          file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
