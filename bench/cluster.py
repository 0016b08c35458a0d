"""The harder failovers, on the cluster that the chaos tests use: three members of etcd, the relay, a link between all parts.

    python -m bench.cluster --trials 10                      every kind below, so many times
    python -m bench.cluster --trials 30 --only dead,cut      some of them
    python -m bench.cluster --away 60 --idle 60              etcd wholly away under load; what an idle pair costs

20 orders a second flow all the time and 100 orders rest. The silence is read from the broker's journal, from the moment of
the fault to the first order taken on the next session. Nobody gives the lease back: the supervisor goes with its replica.
Figures go to bench/results.json. What a kind needs and this machine lacks is said, and the kind is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from bench import failover
from bench.failover import Change, Run, keep, progress, show
from tests.chaos import namespaces
from tests.chaos.check import Bite, refusals
from tests.chaos.cluster import Cluster
from tests.chaos.faults import DidNotBite, Fault
from tests.chaos.partitions import CutHosts, FreezeParts, KillTogether, etcd_away
from tests.chaos.parts import haproxy, needed_parts
from tests.chaos.processes import Used, megabytes
from tests.chaos.traffic import Load, flowing

SYMBOLS = ("AAPL", "MSFT", "GOOG", "AMZN", "NVDA", "IBM")
PRICE = Decimal(100)
SETTINGS = {"MAX_INTENT_AGE_LMT": "600", "LOOP_ALLOWANCE": "0.5"}  # the allowance as users have it
AWAY = 4.0  # seconds; long enough for every failover to have ended before the lost part comes back
CALM = 5.0  # seconds for what a start has begun
UNOBSERVED = 3600.0  # seconds; longer than any measurement


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of trial, with the figure that it is to stay below at p99, in ms."""

    what: str
    fault: Callable[[], Fault]
    target: float
    hosts: bool = False
    comes_back: bool = False
    """The leader survives the fault: it is killed afterwards, as a host that is gone ends all that ran on it. A suspicion
    whose suspect lives stays spent for ten minutes, so that the trials would measure the budget instead."""


KINDS = {
    "dead": Kind("leader and its supervisor killed", lambda: KillTogether(("release", "leader"), AWAY), 3000),
    "frozen": Kind("leader and its supervisor frozen", lambda: FreezeParts(("release", "leader"), AWAY), 3000, comes_back=True),
    "cut": Kind("leader's host cut off", lambda: CutHosts(("leader",), AWAY), 3000, hosts=True, comes_back=True),
    "dead_etcd": Kind(
        "leader, supervisor and etcd's leader killed",
        lambda: KillTogether(("release", "etcd-leader", "leader"), AWAY + 1), 3500,
    ),
    "cut_etcd": Kind(
        "leader's host and that of etcd's leader cut off", lambda: CutHosts(("leader", "etcd-leader"), AWAY + 1), 3500,
        hosts=True, comes_back=True,
    ),
}  # fmt: skip


class Bench:
    """A cluster in a directory of its own, and the traffic's record."""

    def __init__(self, directory: Path, *, hosts: bool, rate: float, resting: int) -> None:
        self.cluster = Cluster(directory / "cluster", hosts=hosts, settings=SETTINGS)
        self.record = directory / "history.jsonl"
        self._log = directory / "traffic.log"
        self._rate, self._resting = rate, resting

    @contextlib.asynccontextmanager
    async def under_load(self, seconds: float) -> AsyncIterator[None]:
        """Resting orders, then orders that flow while the body runs."""
        await self._rest_orders()
        prices = dict.fromkeys(SYMBOLS, PRICE)
        load = Load(self._rate, seconds, settle=8.0, cancel_share=0.0)
        urls = self.cluster.client_urls.values()
        async with flowing(load, urls, prices, self.record, self._log, 1, self.cluster.token, limit_share=1.0) as child:
            yield
            await child.stop((signal.SIGTERM, failover.ENDS_WITHIN))

    async def ask(self, method: str, url: str, body: Any = None) -> tuple[int, Any]:
        """One request as an operator."""
        headers = {} if self.cluster.token is None else {"Authorization": f"Bearer {self.cluster.token}"}
        limit = aiohttp.ClientTimeout(total=5.0)
        async with (
            aiohttp.ClientSession(timeout=limit, headers=headers, trust_env=False) as session,
            session.request(method, url, json=body) as answer,
        ):
            return answer.status, await answer.json()

    async def _rest_orders(self) -> None:
        leader = self.cluster.urls[await self.cluster.paired()]
        for number in range(self._resting):
            body = {
                "client_order_id": f"rest-{number}", "symbol": SYMBOLS[number % len(SYMBOLS)], "side": "BUY", "quantity": "1",
                "order_type": "LMT", "limit_price": "1.00", "tif": "GTC",
            }  # fmt: skip
            status, said = await self.ask("POST", f"{leader}/api/v1/orders", body)
            assert status == 201, said

    # ---- changes of leader

    async def changes(self, kind: Kind, trials: int) -> tuple[Run, Counter[str], int]:
        """So many trials: the figures, why the leader was succeeded, and how many faults did not take effect."""
        made: list[Change] = []
        failed = 0
        async with self.under_load(trials * 60.0):
            for number in range(trials):
                await self.cluster.paired(60.0)
                await asyncio.sleep(1.0 + (number * 0.37) % 0.5)  # anywhere between two arrivals, and two renewals
                try:
                    bite = await kind.fault().strike(self.cluster)
                except DidNotBite as why:
                    failed += 1
                    print(f"does not count: {why}", file=sys.stderr)
                else:
                    made.append(self._change(bite))
                    if kind.comes_back and bite.replica is not None:
                        await self.cluster.pair.kill(bite.replica)
                progress(number + 1, trials)
            await self.cluster.paired(60.0)
            await asyncio.sleep(1.0)
        run = await self._read(made)
        return run, Counter(_why(term) for term in run.phases), failed

    def _change(self, bite: Bite) -> Change:
        assert bite.replica is not None
        return Change(bite.at, self.cluster.client_urls[bite.replica])

    async def _read(self, made: list[Change]) -> Run:
        run = Run()
        failover.read_silences(run, await self.cluster.journal(), self.record, made)
        leader = self.cluster.urls[await self.cluster.paired()]
        terms = (await self.ask("GET", f"{leader}/api/v1/history?limit=1000"))[1]["history"]
        run.phases = [term for change in made if (term := _first_after(terms, change)) is not None]
        doubts = (await self.ask("GET", f"{leader}/api/v1/orders?state=IN_DOUBT&limit=500"))[1]["orders"]
        run.in_doubt = len(doubts)
        return run

    # ---- etcd away, and an idle pair

    async def etcd_away(self, seconds: float) -> dict[str, Any]:
        """All of etcd killed under load, for so long."""
        async with self.under_load(seconds + 60.0):
            leader = await self.cluster.paired()
            await asyncio.sleep(2.0)
            epoch = self.cluster.epoch()
            measuring = asyncio.create_task(self._cpu_while_etcd_is_away(seconds))
            bite = await etcd_away(seconds).strike(self.cluster)
            kept = await self.cluster.paired() == leader and self.cluster.epoch() == epoch
            await asyncio.sleep(1.0)
        entries = [json.loads(line) for line in self.record.read_text().splitlines()]
        refused, asked = refusals(entries), {e["client_order_id"] for e in entries if e.get("op") == "place"}
        return {
            "seconds": seconds, "orders": len(asked), "refused": len(refused), "same_leader_and_epoch": kept,
            "what": bite.evidence, "cpu_percent_under_load": await measuring,
        }  # fmt: skip

    async def idle(self, seconds: float) -> dict[str, Any]:
        """What each replica takes while nothing is asked of it, not even how it is."""
        leader = await self.cluster.paired()
        self.cluster.look_every = UNOBSERVED
        await asyncio.sleep(CALM)
        with_etcd = await self._cpu(seconds)
        names = {leader: "leader", self.cluster.other(leader): "standby"}
        return {
            "seconds": seconds,
            "cpu_percent": {names[name]: share for name, share in with_etcd.items()},
            "megabytes": {names[name]: round(megabytes(self.cluster.child(name).pid), 1) for name in names},
        }

    async def idle_without_etcd(self, seconds: float) -> dict[str, Any]:
        """The same with all of etcd killed."""
        leader = await self.cluster.paired()
        names = {leader: "leader", self.cluster.other(leader): "standby"}
        measuring = asyncio.create_task(self._cpu_while_etcd_is_away(seconds))
        self.cluster.look_every = UNOBSERVED
        await etcd_away(seconds).strike(self.cluster)
        shares = {names[name]: share for name, share in (await measuring).items()}
        return {"seconds": seconds, "cpu_percent": shares}

    async def _cpu(self, seconds: float) -> dict[str, float]:
        pids = {name: self.cluster.child(name).pid for name in self.cluster.urls}
        before = {name: Used.by(pid) for name, pid in pids.items()}
        await asyncio.sleep(seconds)
        return {name: round(Used.by(pid).share_since(before[name]), 2) for name, pid in pids.items()}

    async def _cpu_while_etcd_is_away(self, seconds: float) -> dict[str, float]:
        while self.cluster.living():  # noqa: ASYNC110 - processes that end have no event here
            await asyncio.sleep(0.05)
        return await self._cpu(seconds - 1.0)


def _first_after(terms: list[dict[str, Any]], change: Change) -> dict[str, Any] | None:
    """The history row of the change that this fault brought; `terms` are newest first."""
    after = [term for term in terms if failover.moment(term["at"]) > change.at]
    return after[-1] if after else None


def _why(term: dict[str, Any]) -> str:
    return "suspicion" if "silent" in str(term["reason"]) else "lease ended"


def lacks(*, hosts: bool) -> str | None:
    """What this machine lacks for one of the two forms, or None."""
    if not hosts:
        return needed_parts()
    return namespaces.why_not() or (None if haproxy() else needed_parts())


@contextlib.asynccontextmanager
async def running(name: str, kept: Path | None, **how: Any) -> AsyncIterator[Bench]:
    """A started bench; ended and removed afterwards, its logs laid under `kept`."""
    with tempfile.TemporaryDirectory(prefix="pa-bench-") as directory:
        bench = Bench(Path(directory), **how)
        await bench.cluster.start()
        try:
            yield bench
        finally:
            if kept is not None:
                shutil.copytree(bench.cluster.directory / "log", kept / name, dirs_exist_ok=True)
            await bench.cluster.stop()


async def _measure(asked: argparse.Namespace) -> None:
    how = {"rate": asked.rate, "resting": asked.resting}
    for name in asked.only if asked.trials else ():
        kind = KINDS[name]
        if (lacking := lacks(hosts=kind.hosts)) is not None:
            print(f"{name} is left out: {lacking}", file=sys.stderr)
            continue
        async with running(name, asked.keep, hosts=kind.hosts, **how) as bench:
            run, why, failed = await bench.changes(kind, asked.trials)
        figures = failover.summary(run) | {
            "succeeded_by": dict(why),
            "did_not_bite": failed,
            "target_p99_ms": kind.target,
        }
        keep(f"cluster_{name}", figures)
        show(f"{kind.what}: {asked.trials} times (target p99 {kind.target:g} ms)", figures)
        print(f"succeeded by {dict(why)}", flush=True)
    if asked.away:
        async with running("away", asked.keep, hosts=False, **how) as bench:
            _tell("cluster_etcd_away", await bench.etcd_away(asked.away))
    if asked.idle:
        async with running("idle", asked.keep, hosts=False, **how) as bench:
            _tell("cluster_idle", await bench.idle(asked.idle))
        async with running("idle_without_etcd", asked.keep, hosts=False, **how) as bench:
            _tell("cluster_idle_without_etcd", await bench.idle_without_etcd(asked.idle))


def _tell(name: str, figures: dict[str, Any]) -> None:
    keep(name, figures)
    print(f"{name}: {json.dumps(figures)}", flush=True)


def main() -> int:
    """Run, print tables, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=0, help="of each kind")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--away", type=float, default=0.0, help="seconds without etcd under load")
    parser.add_argument("--idle", type=float, default=0.0, help="seconds of nothing, then the same without etcd")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--resting", type=int, default=100)
    parser.add_argument("--keep", type=Path, default=None, help="a directory for the logs")
    asked = parser.parse_args()
    if unknown := set(asked.only) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    asyncio.run(_measure(asked))
    return 0


if __name__ == "__main__":
    sys.exit(main())
