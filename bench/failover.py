"""How long no order reaches the broker around a change of leader, over many changes, on a real pair on this machine.

    python -m bench.failover --kills 100            the leader's process is killed with -9, its launcher revokes the lease
    python -m bench.failover --switchovers 20       planned hand-overs, as fast after each other as the pair is whole again

20 market orders a second flow all the time, each filled at once, and 100 orders rest. The silence is read from the broker's
journal: from the moment of the kill to the first order taken on the next session; the distance between two arrivals (25 ms on
average) is part of it. What clients saw is in their own history: from the kill to the first 201 of the next leader. In doubt
are orders that stand so at the end.
`--keep DIR` keeps the logs of both replicas, by run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from ha.local.pair import LocalPair
from ha.local.ports import Ports

SYMBOLS = "AAPL,MSFT,GOOG,AMZN,NVDA,IBM"
RESULTS = Path(__file__).with_name("results.json")
ENDS_WITHIN = 15.0  # seconds for the traffic: it settles for 10
ASKED_AGAIN_FOR = 10.0


@dataclass(slots=True)
class Change:
    """One change of leader: when it was asked for, and who led before."""

    at: datetime
    old_url: str


@dataclass(slots=True)
class Run:
    """What one run measured, in milliseconds."""

    broker: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    phases: list[dict[str, Any]] = field(default_factory=list)
    in_doubt: int = 0
    orders: int = 0


class Bench:
    """A pair, its traffic, and one HTTP client."""

    def __init__(self, directory: Path, rate: float, resting: int, seconds: float) -> None:
        self.directory, self.rate, self.resting, self.seconds = directory, rate, resting, seconds
        env = {"PATH": "/usr/bin:/bin", "MAX_INTENT_AGE_LMT": "600"}
        self.pair = LocalPair(directory / "pair", ports=Ports.free(), env=env)
        self.history = directory / "history.jsonl"

    async def run(self, changes: int, planned: bool) -> Run:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as self.http:
            await self.pair.start()
            try:
                return await self._measure(changes, planned)
            finally:
                await self.pair.stop()

    async def _measure(self, changes: int, planned: bool) -> Run:
        await self._rest_orders(await self._leader())
        traffic = await self._traffic()
        made: list[Change] = []
        try:
            for number in range(changes):
                leader = await self._ready_pair()
                await asyncio.sleep(1.0 + (number * 0.37) % 0.05)  # let the kill fall anywhere between two arrivals
                made.append(await self._change(leader, planned))
                progress(number + 1, changes)
            await self._ready_pair()
            await asyncio.sleep(1.0)
        finally:
            await ended(traffic)
        return await self._read(made)

    async def _change(self, leader: str, planned: bool) -> Change:
        at = datetime.now(UTC)
        if planned:
            at = await self._switchover(leader)
        else:
            await self.pair.kill(next(r.name for r in self.pair.replicas if r.url == leader), signal.SIGKILL)
        await self._until(lambda url: url != leader, "/leader")
        return Change(at, leader)

    async def _switchover(self, leader: str) -> datetime:
        """Ask for a hand-over; when it was asked for. A leader whose standby is not connected yet refuses it."""
        end = time.monotonic() + ASKED_AGAIN_FOR
        while True:
            at = datetime.now(UTC)
            async with self.http.post(f"{leader}/api/v1/cluster/switchover", json={"force": True}) as answer:
                if answer.status == 202:
                    return at
                if time.monotonic() > end:
                    raise TimeoutError(f"{leader} hands nothing over: {await answer.text()}")
            await asyncio.sleep(0.1)

    async def _status(self, url: str, path: str) -> int:
        try:
            async with self.http.get(url + path) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def _until(self, wanted: Any, path: str, seconds: float = 60.0) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for replica in self.pair.replicas:
                if wanted(replica.url) and await self._status(replica.url, path) == 200:
                    return replica.url
            await asyncio.sleep(0.02)
        raise TimeoutError(f"nobody answers 200 on {path}")

    async def _leader(self) -> str:
        return await self._until(lambda _: True, "/leader")

    async def _ready_pair(self) -> str:
        leader = await self._leader()
        await self._until(lambda url: url != leader, "/standby")
        await self._until(lambda url: url == leader, "/readyz")
        return leader

    async def _rest_orders(self, leader: str) -> None:
        for number in range(self.resting):
            body = {
                "client_order_id": f"rest-{number}", "symbol": SYMBOLS.split(",")[number % 6], "side": "BUY", "quantity": "1",
                "order_type": "LMT", "limit_price": "1.00", "tif": "GTC",
            }  # fmt: skip
            async with self.http.post(f"{leader}/api/v1/orders", json=body) as answer:
                assert answer.status == 201, await answer.text()

    async def _traffic(self) -> asyncio.subprocess.Process:
        urls = [part for replica in self.pair.replicas for part in ("--url", replica.url)]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "adapter_client.traffic", *urls, "--rate", str(self.rate), "--seconds", str(self.seconds),
            "--symbols", SYMBOLS, "--history", str(self.history), "--seed", "1", "--cancel-share", "0", "--limit-share", "0",
            *(part for s in SYMBOLS.split(",") for part in ("--price", f"{s}=100")), stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    # ---- reading

    async def _read(self, made: list[Change]) -> Run:
        run = Run()
        async with self.http.get(f"http://127.0.0.1:{self.pair.ports.control}/journal") as answer:
            entries = (await answer.json())["entries"]
        read_silences(run, entries, self.history, made)
        leader = await self._leader()
        async with self.http.get(f"{leader}/api/v1/history?limit=1000") as answer:
            run.phases = (await answer.json())["history"][: len(made)]
        async with self.http.get(f"{leader}/api/v1/orders?state=IN_DOUBT&limit=1000") as answer:
            run.in_doubt = len((await answer.json())["orders"])
        return run


def progress(done: int, of: int) -> None:
    """Say how far it is: over the same line on a terminal, a line each elsewhere."""
    start, end = ("\r", "") if sys.stderr.isatty() else ("", "\n")
    print(f"{start}{done}/{of}", end=end, file=sys.stderr, flush=True)


async def ended(traffic: asyncio.subprocess.Process) -> None:
    """End the traffic and wait for it, a bounded time."""
    traffic.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(ENDS_WITHIN):
            await traffic.wait()
    except TimeoutError:
        traffic.kill()
        await traffic.wait()
        print("the traffic did not end by itself", file=sys.stderr)


def read_silences(run: Run, journal: list[dict[str, Any]], history: Path, made: list[Change]) -> None:
    """Put into `run` how long it was after each change until an order came over the next session, and until a 201."""
    taken = [(moment(e["at"]), e["session"]) for e in journal if e["kind"] == "order"]
    answers = _accepted(history)
    for change in made:
        before = [session for at, session in taken if at <= change.at]
        after = [at for at, session in taken if at > change.at and (not before or session > max(before))]
        if after:
            run.broker.append((after[0] - change.at).total_seconds() * 1000)
        later = [at for at, url in answers if at > change.at and not url.startswith(change.old_url)]
        if later:
            run.accepted.append((later[0] - change.at).total_seconds() * 1000)
    run.orders = len(taken)


def moment(text: str) -> datetime:
    """A time as the journal and the API write it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _accepted(history: Path) -> list[tuple[datetime, str]]:
    """Answers 201, in order: when, and from whom."""
    rows = (json.loads(line) for line in history.read_text().splitlines())
    return sorted((moment(r["at"]), r["url"]) for r in rows if r.get("status") == 201)


def spread(values: list[float]) -> dict[str, float]:
    """Count, median, 99th percentile and maximum; empty for none."""
    ordered = sorted(values)
    if not ordered:
        return {}

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "n": len(ordered),
        "p50": round(statistics.median(ordered), 1),
        "p99": round(at(0.99), 1),
        "max": round(ordered[-1], 1),
    }


def summary(run: Run) -> dict[str, Any]:
    """The figures as they go into results.json."""
    names = ("detect_ms", "acquire_ms", "claim_ms", "fence_ms", "connect_ms", "reconcile_ms", "total_ms")
    return {
        "silence_at_broker_ms": spread(run.broker),
        "silence_accepted_ms": spread(run.accepted),
        "phases_ms": {n.removesuffix("_ms"): spread([p[n] for p in run.phases if p[n] is not None]) for n in names},
        "in_doubt": run.in_doubt,
        "orders": run.orders,
    }


def keep(name: str, figures: dict[str, Any], results: Path = RESULTS) -> None:
    """Put these figures into bench/results.json, or into another file."""
    known = json.loads(results.read_text()) if results.exists() else {}
    results.write_text(json.dumps(known | {name: figures}, indent=2, sort_keys=True) + "\n")


def main() -> int:
    """Run, print a table, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--switchovers", type=int, default=0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--resting", type=int, default=100)
    parser.add_argument("--keep", type=Path, default=None)
    asked = parser.parse_args()
    for name, count, planned in (("failover", asked.kills, False), ("switchover", asked.switchovers, True)):
        if not count:
            continue
        with tempfile.TemporaryDirectory(prefix="pa-bench-") as directory:
            bench = Bench(Path(directory), asked.rate, asked.resting, count * 60.0)
            try:
                figures = summary(asyncio.run(bench.run(count, planned)))
            finally:
                if asked.keep is not None:
                    shutil.copytree(bench.directory / "pair" / "log", asked.keep / name, dirs_exist_ok=True)
        keep(name, figures)
        show(f"{name}: {count} changes of leader", figures)
    return 0


def show(title: str, figures: dict[str, Any]) -> None:
    """Print the table of one run."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "n", "p50 ms", "p99 ms", "max ms", title=title)
    rows = {
        "silence at the broker": figures["silence_at_broker_ms"],
        "silence accepted": figures["silence_accepted_ms"],
    }
    for what, found in (rows | figures["phases_ms"]).items():
        table.add_row(what, *(str(found.get(key, "-")) for key in ("n", "p50", "p99", "max")))
    Console(stderr=False, width=100).print(table)
    print(f"{figures['orders']} orders at the broker, {figures['in_doubt']} in doubt", flush=True)


if __name__ == "__main__":
    sys.exit(main())
