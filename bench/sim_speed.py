"""How fast the stand-in gateway takes orders, and what they leave in its memory; nothing here is asserted.

    python -m bench.sim_speed                       20,000 orders placed and cancelled, placed and filled, only placed,
                                                    on top of 10,000 resting ones
    python -m bench.sim_speed --soak 1000000        afterwards so many filled orders (100,000 if not told), with the memory
                                                    after each tenth

The stand-in runs as a process of its own, tied to one core where the system can do that, and keeps its journal on disk.
One client speaks raw frames, made beforehand, with a bounded number of orders under way. `orders_per_s` is by the clock
of a machine that others may use too; `orders_per_core_s` is what one core could do, from the processor time that the
stand-in took. Processor time, too, is longer on a busy machine: `loops_per_order` says what an order costs in turns of
an empty Python loop, timed in the same run on the same core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from ibsim.messages import encode_request
from ibsim.peer import PLAIN_ORDER
from ibsim.wire import PREAMBLE, Frames, frame

RESULTS = Path(__file__).with_name("results.json")
VERSION = 178
WINDOW = 500
"""Orders under way at most."""
BATCH = 50
ACKNOWLEDGED = b"\0Submitted\0"
CHARGED = b"59\0"
CANCELLED = b"\0Cancelled\0"


class Gateway:
    """The stand-in's process: what it used so far."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def cpu(self) -> float:
        """Seconds of processor time."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident megabytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6


@contextlib.asynccontextmanager
async def gateway(directory: Path) -> AsyncIterator[Gateway]:
    """A stand-in with a journal in this directory, on one core."""
    options = ["--port", "0", "--control-port", "0", "--journal", str(directory / "journal.jsonl")]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "ibsim", *options, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        yield Gateway(process.pid, ready["port"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Client:
    """One session that sends prepared frames and counts what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = Frames()
        self._counts = {ACKNOWLEDGED: 0, CHARGED: 0, CANCELLED: 0}
        self.next_id = 1

    @classmethod
    async def connect(cls, port: int) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREAMBLE + frame(b"v157..178"))
        await reader.read(1 << 16)
        writer.write(encode_request("startApi", VERSION, {"version": "2", "clientId": "1"}))
        await asyncio.sleep(0.3)
        await reader.read(1 << 16)
        return cls(reader, writer)

    def _orders(self, count: int, **values: str) -> Iterator[bytes]:
        """Frames of placeOrder with rising ids, ten digits each, so that one frame serves as the pattern of all."""
        fields = {**PLAIN_ORDER, "symbol": "AAPL", "account": "DU1234567", "totalQuantity": "1", **values}
        mark = "9876543210"
        pattern = encode_request("placeOrder", VERSION, {**fields, "orderId": mark, "orderRef": f"pa.BNCH.1.{mark}"})
        first, self.next_id = self.next_id, self.next_id + count
        return (pattern.replace(mark.encode(), b"%010d" % number) for number in range(first, first + count))

    async def place(self, count: int, wait_for: bytes, **values: str) -> None:
        """Places so many orders and waits until each has its answer."""
        await self._pump(self._orders(count, **values), count, wait_for)

    async def place_and_cancel(self, count: int, **values: str) -> None:
        """Places so many orders, and asks for the end of each right behind it."""
        first = self.next_id
        cancels = (
            encode_request("cancelOrder", VERSION, {"version": "1", "orderId": str(number)})
            for number in range(first, first + count)
        )
        both = (a + b for a, b in zip(self._orders(count, **values), cancels, strict=True))
        await self._pump(both, count, CANCELLED)

    async def _pump(self, frames: Iterator[bytes], count: int, wait_for: bytes) -> None:
        start = self._counts[wait_for]
        sent = 0
        while (done := self._counts[wait_for] - start) < count:
            while sent < count and sent - done < WINDOW:
                size = min(BATCH, count - sent)
                self._writer.write(b"".join(next(frames) for _ in range(size)))
                sent += size
            data = await asyncio.wait_for(self._reader.read(1 << 20), 60)
            if not data:
                raise ConnectionError("the stand-in closed the connection")
            for payload in self._frames.feed(data):
                if payload.startswith(CHARGED):
                    self._counts[CHARGED] += 1
                elif payload.startswith(b"3\0"):
                    for mark in (ACKNOWLEDGED, CANCELLED):
                        self._counts[mark] += mark in payload


def _loop_us() -> float:
    """Microseconds of processor time that one turn of an empty loop takes now."""
    turns = 2_000_000
    start = time.process_time()
    for _ in range(turns):
        pass
    return (time.process_time() - start) / turns * 1e6


async def _measured(server: Gateway, work: Any, orders: int) -> dict[str, float]:
    before = _loop_us()
    cpu, start = server.cpu(), time.perf_counter()
    await work
    wall, used = time.perf_counter() - start, server.cpu() - cpu
    loop_us = (before + _loop_us()) / 2
    return {
        "loops_per_order": round(used / orders * 1e6 / loop_us),
        "orders": orders,
        "orders_per_s": round(orders / wall),
        "orders_per_core_s": round(orders / used) if used else 0,
        "cpu_us_per_order": round(used / orders * 1e6),
        "memory_mb": round(server.memory(), 1),
    }


async def measure(orders: int, resting: int, soak: int) -> dict[str, Any]:
    """Runs everything; returns the figures."""
    with tempfile.TemporaryDirectory(prefix="sim-speed-") as directory:
        async with gateway(Path(directory)) as server:
            client = await Client.connect(server.port)
            buy = {"action": "BUY"}
            figures: dict[str, Any] = {"memory_mb_empty": round(server.memory(), 1)}
            await client.place(resting, ACKNOWLEDGED, lmtPrice="100", **buy)
            figures["resting_orders"] = resting
            figures["memory_mb_resting"] = round(server.memory(), 1)
            work = client.place_and_cancel(orders, lmtPrice="101", **buy)
            figures["placed_and_cancelled"] = await _measured(server, work, orders)
            work = client.place(orders, CHARGED, orderType="MKT", lmtPrice="", **buy)
            figures["placed_and_filled"] = await _measured(server, work, orders)
            work = client.place(orders, ACKNOWLEDGED, lmtPrice="101", **buy)
            figures["placed"] = await _measured(server, work, orders)
            if soak:
                figures[f"soak_{soak}"] = await _soak(server, client, soak)
            return figures


async def _soak(server: Gateway, client: Client, orders: int) -> dict[str, Any]:
    """Filled orders without end: the memory after each tenth, and what the last nine of them added."""
    memory = [server.memory()]
    cpu, start = server.cpu(), time.perf_counter()
    for number in range(10):
        side = "SELL" if number % 2 else "BUY"
        await client.place(orders // 10, CHARGED, orderType="MKT", lmtPrice="", action=side)
        memory.append(server.memory())
        print(f"\r{number + 1}0 %  {memory[-1]:.0f} MB", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    wall, used = time.perf_counter() - start, server.cpu() - cpu
    return {
        "orders": orders,
        "orders_per_s": round(orders / wall),
        "orders_per_core_s": round(orders / used),
        "memory_mb": [round(one, 1) for one in memory],
        "memory_mb_growth": round(memory[-1] - memory[1], 1),
    }


def _table(figures: dict[str, Any]) -> str:
    rows = [f"{'orders':20} {'number':>9} {'per s':>8} {'per core s':>11} {'CPU us':>7} {'loops':>7} {'MB':>7}"]
    for kind in ("placed", "placed_and_cancelled", "placed_and_filled"):
        one = figures[kind]
        rows.append(
            f"{kind.replace('_', ' '):20} {one['orders']:>9} {one['orders_per_s']:>8} {one['orders_per_core_s']:>11}"
            f" {one['cpu_us_per_order']:>7} {one['loops_per_order']:>7} {one['memory_mb']:>7}"
        )
    rows.append(f"{figures['resting_orders']} orders rest all the time; empty {figures['memory_mb_empty']} MB")
    for one in (one for name, one in figures.items() if name.startswith("soak_")):
        rows.append(f"{'soak, filled':20} {one['orders']:>9} {one['orders_per_s']:>8} {one['orders_per_core_s']:>11}")
        rows.append(f"memory {one['memory_mb']} MB: from the first tenth to the last {one['memory_mb_growth']} MB")
    return "\n".join(rows)


def main() -> int:
    """Runs the command."""
    options = argparse.ArgumentParser(
        prog="bench.sim_speed", description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else ""
    )
    options.add_argument("--orders", type=int, default=20_000, metavar="N", help="of each kind")
    options.add_argument("--resting", type=int, default=10_000, metavar="N", help="that rest all the time")
    options.add_argument("--soak", type=int, default=100_000, metavar="N", help="so many filled orders after that")
    options.add_argument(
        "--json", type=Path, default=RESULTS, metavar="FILE", help="where the figures go, under stand_in"
    )
    given = options.parse_args()
    figures = asyncio.run(measure(given.orders, given.resting, given.soak))
    known = json.loads(given.json.read_text()) if given.json.exists() else {}
    known["stand_in"] = {**known.get("stand_in", {}), **figures}  # a soak of another length stays
    given.json.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    print(_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
