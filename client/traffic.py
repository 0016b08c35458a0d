"""Recorded traffic: `python -m adapter_client.traffic --url A --url B --rate 20 --symbols AAPL --price AAPL=190 ...`.

Orders arrive on schedule, each is followed to its end under its own key, and every step is on disk before the next
(`record.py`), so that whoever judges the adapter later has the clients' side whole, also after a kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

from .adapter import AdapterClient
from .errors import Refused, Unavailable, Unfinished, UnreadableAnswer
from .model import Order, OrderRequest
from .record import Record
from .schedule import Mix, Planned, plan

PATIENCE = 2.5  # seconds of one call; the traffic repeats it under the same key until its own end
GRACE = 0.5  # seconds after the end in which calls under way end by themselves, before they are cut off
TOKEN_VARIABLE = "ADAPTER_TOKEN"


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of a run's orders. `unanswered` have no 2xx and no refusal: unknown to their client, or not accepted
    by anybody. Latencies are from an order's first attempt to its answer, in milliseconds."""

    run: str
    seed: int
    history: str
    orders: int = 0
    answered: int = 0
    refused: int = 0
    unanswered: int = 0
    cancels: int = 0
    cancels_refused: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    longest_ms: float | None = None
    latencies: list[float] = field(default_factory=list, repr=False)

    def finish(self) -> None:
        """Works out the latencies' figures."""
        self.unanswered = self.orders - self.answered - self.refused
        ranked = sorted(self.latencies)
        if ranked:
            self.p50_ms, self.p99_ms = (round(ranked[int(len(ranked) * share)], 1) for share in (0.5, 0.99))
            self.longest_ms = round(ranked[-1], 1)

    def as_json(self) -> dict[str, object]:
        """The summary without its raw latencies."""
        return {name: value for name, value in asdict(self).items() if name != "latencies"}


class Traffic:
    """One run. `settle` is how long, in seconds, unanswered orders are repeated after the last arrival, `repeat_for` how
    long each one at most (None = to the end of the run)."""

    def __init__(
        self,
        urls: Sequence[str],
        mix: Mix,
        history: Path,
        *,
        seed: int,
        settle: float = 10.0,
        token: str | None = None,
        attempt_timeout: float = 1.0,
        patience: float = PATIENCE,
        run: str | None = None,
        repeat_for: float | None = None,
    ) -> None:
        self._urls = urls
        self._mix = mix
        self._history = history
        self._settle = settle
        self._token = token
        self._attempt_timeout = attempt_timeout
        self._patience = patience
        self._repeat_for = math.inf if repeat_for is None else repeat_for
        self._stopping = asyncio.Event()
        self._give_up_at: float | None = None
        self._summary = Summary(run=run or uuid.uuid4().hex[:6], seed=seed, history=str(history))

    def stop(self) -> None:
        """No new orders and no new cancels from now on; `run` returns when those under way have settled."""
        if not self._stopping.is_set():
            self._give_up_at = time.monotonic() + self._settle
            self._stopping.set()

    async def run(self) -> Summary:
        """Places every order of the plan, settles, and returns what became of them.

        Raises OSError (in a group, once orders are under way) when the history cannot be written. A cancelled run leaves
        a history that says what is known: attempts without an end are unknown.
        """
        summary = self._summary
        rng = random.Random(summary.seed)
        with Record(self._history) as record:
            about = {"rate": self._mix.rate, "seconds": self._mix.seconds, "symbols": list(self._mix.symbols)}
            record.write({"op": "run", "kind": "start", "run": summary.run, "seed": summary.seed} | about)
            async with AdapterClient(
                self._urls,
                self._token,
                attempt_timeout=self._attempt_timeout,
                observer=record.attempt,
                rng=rng,
            ) as client:
                await self._place_all(client, record)
            summary.finish()
            record.write({"op": "run", "kind": "end"} | summary.as_json())
        return summary

    async def _place_all(self, client: AdapterClient, record: Record) -> None:
        started = time.monotonic()
        with suppress(TimeoutError):  # what is still under way then stays unanswered; the record says how far it got
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as following:
                for planned in plan(self._mix, seed=self._summary.seed, run=self._summary.run):
                    if await self._stopped_within(started + planned.at - time.monotonic()):
                        break
                    self._summary.orders += 1
                    following.create_task(self._follow(client, record, planned))
                await self._stopped_within(started + self._mix.seconds - time.monotonic())
                self.stop()
                limit.reschedule(asyncio.get_running_loop().time() + self._seconds_left() + GRACE)

    async def _follow(self, client: AdapterClient, record: Record, planned: Planned) -> None:
        """One order from its arrival to its answer, and its cancel where one is planned."""
        record.expect(planned.request)
        began = time.monotonic()
        order = await self._place(client, planned.request)
        if order is None:
            return
        self._summary.latencies.append((time.monotonic() - began) * 1000)
        record.name(order.id, planned.request.client_order_id or "")
        if planned.cancel_after is None or await self._stopped_within(planned.cancel_after):
            return
        await self._cancel(client, order)

    async def _place(self, client: AdapterClient, request: OrderRequest) -> Order | None:
        """The answered order; None when it was refused, or when nobody answered for as long as it was repeated."""
        until = time.monotonic() + self._repeat_for
        while (seconds := min(self._seconds_left(), until - time.monotonic())) > 0:
            try:
                order = await client.place(request, timeout=min(self._patience, seconds))
            except Refused:
                self._summary.refused += 1
                return None
            except Unfinished:
                continue  # not accepted, or unknown: the same key again, until the run's own end
            except UnreadableAnswer:
                self._summary.answered += 1  # accepted, and the record says so; there is no id to cancel by
                return None
            self._summary.answered += 1
            return order
        return None

    async def _cancel(self, client: AdapterClient, order: Order) -> None:
        while (seconds := self._seconds_left()) > 0:
            try:
                await client.cancel(order.id, timeout=min(self._patience, seconds))
            except Refused:
                self._summary.cancels_refused += 1  # it was final already
                return
            except Unfinished:
                continue
            except (UnreadableAnswer, Unavailable):
                pass  # the cancel itself was answered; only the order could not be read back
            self._summary.cancels += 1
            return

    def _seconds_left(self) -> float:
        return self._patience if self._give_up_at is None else self._give_up_at - time.monotonic()

    async def _stopped_within(self, seconds: float) -> bool:
        """Waits so long, or until the run is stopped; says which."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, seconds))
        return self._stopping.is_set()


def _price(text: str) -> tuple[str, Decimal]:
    symbol, _, price = text.partition("=")
    try:
        value = Decimal(price)
    except InvalidOperation:
        value = Decimal(0)
    if not symbol or not value.is_finite() or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not SYMBOL=PRICE with a price above 0")
    return symbol, value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m adapter_client.traffic",
        description=f"Places orders on schedule and records every step. A bearer token is read from {TOKEN_VARIABLE}.",
    )
    parser.add_argument("--url", action="append", required=True, help="a replica's address; once for each")
    parser.add_argument("--rate", type=float, default=20.0, help="orders a second (default 20)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long orders arrive (default 30)")
    parser.add_argument("--symbols", required=True, help="comma-separated")
    parser.add_argument("--price", type=_price, action="append", default=[], help="SYMBOL=PRICE at the start")
    parser.add_argument("--seed", type=int, default=None, help="draws the same orders again (default: random)")
    parser.add_argument("--history", type=Path, required=True, help="the file that every step is appended to")
    parser.add_argument("--limit-share", type=float, default=0.5, help="of all orders (default 0.5)")
    parser.add_argument("--cancel-share", type=float, default=0.15, help="of all orders (default 0.15)")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds for unanswered orders at the end")
    parser.add_argument("--repeat-for", type=float, default=None, help="seconds of one order (default: to the end)")
    options = parser.parse_args(argv)
    try:
        options.mix = Mix(
            rate=options.rate,
            seconds=options.seconds,
            symbols=tuple(symbol for symbol in options.symbols.split(",") if symbol),
            prices=dict(options.price),
            limit_share=options.limit_share,
            cancel_share=options.cancel_share,
        )
    except ValueError as error:
        parser.error(str(error))
    return options


async def _run(options: argparse.Namespace) -> Summary:
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    token = os.environ.get(TOKEN_VARIABLE)
    traffic = Traffic(
        options.url, options.mix, options.history, seed=seed, settle=options.settle, token=token,
        repeat_for=options.repeat_for,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, traffic.stop)
    return await traffic.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until the time is up or SIGTERM, settles, and prints one JSON line. 0 = ran, 1 = broke, 2 = wrong usage."""
    options = _arguments(argv)
    try:
        summary = asyncio.run(_run(options))
    except (OSError, ExceptionGroup) as error:
        broken = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        if not isinstance(broken, OSError):
            raise
        print(f"traffic: {broken}", file=sys.stderr)
        return 1
    print(json.dumps(summary.as_json()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
