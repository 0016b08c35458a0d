"""`adapter demo`: a pair of its own, orders flowing, the leader killed twice, and the verdict.

The traffic is a process of its own and knows no more than a strategy would: two addresses. What it was answered is in
its history file, what the broker took is in the stand-in's journal, and the judge compares the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import json as jsonlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console

from ha.demo import collect, market, report
from ha.demo.broker_record import IncompleteJournal
from ha.demo.fetch import Fetch, FetchFailed
from ha.demo.history import BadHistory
from ha.demo.judge import Verdict
from ha.demo.scene import Scene
from ha.demo.silence import Kill
from ha.demo.view import View
from ha.demo.watch import Watch
from ha.local.pair import LocalPair, StartFailed
from ha.local.ports import Ports
from ha.local.process import Child, Spec, spawn
from ha.local.supervise import Event

SYMBOLS = ("AAPL", "AMZN", "GOOG", "IBM", "MSFT", "NVDA")
TRAFFIC_SETTLES = 6.0  # seconds in which the traffic repeats what was not answered
PAIR_READY = 20.0  # seconds for a leader with a healthy standby, before an order and before each kill
PAIR_SETTLES = 15.0  # seconds in which orders on their way arrive, and both books become equal
# settings of the caller's that would make the traffic a stranger to its own pair, or throttle it
_NOT_FOR_THE_DEMO = (
    *(name + ending for name in ("API_SECRET_KEY", "SECRET_KEY") for ending in ("", "_FILE")),
    "ENABLE_API_AUTH",
    "RATE_LIMIT_PER_MINUTE",
    "FAILPOINTS",
)


# An order accepted for a contract that an order in doubt then holds waits, and expires at its age: here soon enough to be
# seen. Left at a minute the run would end with orders that are neither sent nor over.
_SETTINGS = {f"MAX_INTENT_AGE_{kind}": "5" for kind in ("MKT", "LMT")}


class DemoFailed(Exception):
    """The demonstration could not be carried out; the message says which part of it, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done. The kills are `kills` seconds after the first order."""

    directory: Path
    seconds: float
    rate: float
    seed: int
    ports: Ports
    kills: Sequence[float]

    @classmethod
    def make(cls, directory: Path, *, seconds: float, rate: float, seed: int, ports: Ports) -> Plan:
        """Kills after about a third and about two thirds of the time, where exactly is drawn from the seed."""
        rng = random.Random(seed)
        kills = [seconds * share * rng.uniform(0.9, 1.1) for share in (1 / 3, 2 / 3)]
        return cls(directory=directory, seconds=seconds, rate=rate, seed=seed, ports=ports, kills=kills)


def demo(
    *, dir: Path | None, seconds: float, rate: float, seed: int | None, port_base: int | None, json: bool, keep: bool
) -> int:
    """Runs the demonstration and prints its report. 0 = fine, 1 = not fine or not carried out, 2 = wrong usage.

    Without `dir` everything lies in a fresh directory, which is removed at the end unless `keep` is set or the verdict
    is bad. With `json` stdout carries one JSON object and nothing else; progress goes to stderr.
    """
    progress = report.console_for(stderr=json)
    try:
        ports = Ports.free() if port_base is None else Ports.from_base(port_base)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="adapter-demo-")) if dir is None else dir.resolve()
    drawn = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    plan = Plan.make(directory, seconds=seconds, rate=rate, seed=drawn, ports=ports)
    try:
        found = asyncio.run(_carry_out(plan, progress))
    except (DemoFailed, StartFailed, collect.NothingToJudge, IncompleteJournal, BadHistory) as error:
        print(f"adapter demo: {error}\nadapter demo: logs, journal and history are in {directory}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("adapter demo: stopped before its end; nothing is left running", file=sys.stderr)
        _clear(directory, dir is not None or keep)
        return 1
    if json:
        print(jsonlib.dumps(report.as_json(found)))
    else:
        report.render(found, progress)
    _clear(directory, dir is not None or keep or not found.ok)
    return 0 if found.ok else 1


def _clear(directory: Path, keep: bool) -> None:
    """Removes the directory, or says where it is."""
    if not keep:
        try:
            shutil.rmtree(directory)
        except OSError as error:
            print(f"adapter demo: {directory} could not be removed: {error}", file=sys.stderr)
    else:
        print(f"adapter demo: logs, journal and history are in {directory}", file=sys.stderr)


async def _carry_out(plan: Plan, console: Console) -> report.Report:
    """The whole of it in an event loop; whatever was started has ended when this returns or raises."""
    began = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    scene = Scene(names=("a", "b"))
    env = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_THE_DEMO} | _SETTINGS
    pair = LocalPair(
        plan.directory,
        ports=plan.ports,
        restart=True,
        watchdog=True,
        env=env,
        on_event=lambda event: _tell(scene, event),
    )
    async with _beside(View(scene, console, datetime.now(UTC)).run()):
        scene.tell(
            datetime.now(UTC), f"starting etcd, PostgreSQL, the stand-in gateway and two replicas, seed {plan.seed}"
        )
        async with pair:
            try:
                return await _Run(plan, pair, scene, began).run()
            finally:
                scene.tell(datetime.now(UTC), "ending everything")
                scene.closed = True


class _Run:
    """One demonstration on a pair that is up."""

    def __init__(self, plan: Plan, pair: LocalPair, scene: Scene, began: float) -> None:
        self._plan, self._pair, self._scene, self._began = plan, pair, scene, began
        info = pair.info()
        self._urls = {str(replica["name"]): str(replica["url"]) for replica in info["replicas"]}
        self._control = str(info["gateway"]["control"])
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self._history = plan.directory / f"history-{stamp}.jsonl"

    async def run(self) -> report.Report:
        prices, since = await self._market()
        watch = Watch(self._scene, self._urls, self._control, self._history, since=since)
        moving = market.move(self._control, prices, random.Random(self._plan.seed))
        async with _beside(watch.run()):
            await self._paired(watch, "before the first order")
            async with _beside(moving), self._traffic(prices) as traffic:
                started, self._scene.flowing = time.monotonic(), True
                await self._kill_in_mid_flow(watch, started)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(traffic.wait(), max(0.0, started + self._plan.seconds - time.monotonic()))
                self._scene.flowing = False
                self._say("the last order was placed; what was not answered is repeated under its own key")
                await traffic.wait()
            if traffic.code != 0:
                raise DemoFailed(f"the traffic ended with {traffic.how_it_ended()}:\n{traffic.last_lines()}")
            self._say("the traffic has ended; waiting until both replicas and the broker are at rest")
            reader = collect.Reader(self._urls, self._control, self._history, self._scene, since=since)
            settled = await reader.settle(PAIR_SETTLES)
        return report.Report(
            verdict=settled.verdict,
            history=settled.history,
            seed=self._plan.seed,
            rate=self._plan.rate,
            seconds=self._plan.seconds,
            took_seconds=time.monotonic() - self._began,
            directory=str(self._plan.directory),
            traffic=settled.traffic,
            notes=[*settled.notes, *_too_little(settled.verdict)],
        )

    async def _market(self) -> tuple[dict[str, Decimal], int]:
        """The start prices of the symbols to trade, and the journal's last entry."""
        async with Fetch() as fetch:
            try:
                prices = await fetch.get(f"{self._control}/prices")
                journal = await fetch.get(f"{self._control}/journal")
            except FetchFailed as error:
                raise DemoFailed(f"the stand-in gateway's control port: {error}") from error
        missing = [symbol for symbol in SYMBOLS if symbol not in prices]
        if missing:
            raise DemoFailed(f"the stand-in gateway has no price of {', '.join(missing)}")
        return {symbol: Decimal(prices[symbol]) for symbol in SYMBOLS}, int(journal["seq"])

    @asynccontextmanager
    async def _traffic(self, prices: dict[str, Decimal]) -> AsyncIterator[Child]:
        """The traffic as a child; asked to stop, then killed, if it still runs at the end."""
        plan = self._plan
        argv = [sys.executable, "-m", "adapter_client.traffic", "--history", str(self._history)]
        argv += [
            f"--rate={plan.rate}",
            f"--seconds={plan.seconds}",
            f"--seed={plan.seed}",
            f"--settle={TRAFFIC_SETTLES}",
        ]
        argv += [f"--url={url}" for url in self._urls.values()]
        argv += [f"--symbols={','.join(prices)}", *(f"--price={symbol}={price}" for symbol, price in prices.items())]
        log = plan.directory / "log" / "traffic.log"
        child = spawn(Spec("traffic", tuple(argv), dict(os.environ), plan.directory, log))
        self._say(f"orders flow: {plan.rate:g} a second, {len(prices)} symbols, for {plan.seconds:g} s")
        try:
            yield child
        finally:
            if child.code is None:
                await child.stop((signal.SIGTERM, 2.0))

    async def _kill_in_mid_flow(self, watch: Watch, started: float) -> None:
        for after in self._plan.kills:
            await asyncio.sleep(max(0.0, started + after - time.monotonic()))
            name = await self._paired(watch, "before a kill")
            pid = next(replica.pid for replica in self._pair.replicas if replica.name == name)
            kill = Kill(name, self._urls[name], datetime.now(UTC))
            self._scene.killed(kill, f"KILLED the leader {name} (pid {pid}) with -9")
            try:
                await self._pair.kill(name, signal.SIGKILL)
            except LookupError as error:
                raise DemoFailed(f"the leader died before it could be killed: {error}") from error

    async def _paired(self, watch: Watch, when: str) -> str:
        try:
            return await watch.until(self._scene.paired, PAIR_READY)
        except TimeoutError:
            why = self._scene.disagreement() or "it came too late"
            raise DemoFailed(f"no leader with a healthy standby {when} within {PAIR_READY:g} s: {why}") from None

    def _say(self, sentence: str) -> None:
        self._scene.tell(datetime.now(UTC), sentence)


def _too_little(verdict: Verdict) -> list[str]:
    """A run in which hardly an order reached the broker proves nothing, however few it lost."""
    if verdict.taken * 2 >= verdict.asked > 0:
        return []
    where = ", ".join(f"{count} {state}" for state, count in verdict.unsent.items())
    return [f"the broker took {verdict.taken} of {verdict.asked} orders ({where or 'the rest was not accepted'})"]


def _tell(scene: Scene, event: Event) -> None:
    """What the launcher says of its parts, where a spectator cares."""
    sentences = {
        "ready": f"{event.part} is ready after {event.detail}",
        "ended": f"{event.part} has ended: {event.detail}",
        "released": f"{event.part}: its lease is given back, {event.detail}",
        "restarted": f"{event.part} is started again",
        "failed": f"{event.part} failed: {event.detail}",
    }
    if event.kind in sentences and not scene.closed:
        scene.tell(datetime.now(UTC), sentences[event.kind])


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` beside the body and cancels it at its end; if it breaks, the body is cancelled and its error raised."""
    body = asyncio.current_task()
    assert body is not None
    task = asyncio.create_task(work)
    broke = False

    def ended(done: asyncio.Task[None]) -> None:
        nonlocal broke
        if not done.cancelled() and done.exception() is not None:
            broke = True
            body.cancel()

    task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if broke:
            body.uncancel()
            await task  # raises what broke
        raise
    finally:
        task.remove_done_callback(ended)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
