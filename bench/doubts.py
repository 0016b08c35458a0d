"""Orders in doubt after kills of the leader, 1, 10 and 60 s after each takeover, on a real pair on this machine.

    python -m bench.doubts --kills 60                 all three gateways, one after the other
    python -m bench.doubts --kills 60 --arm inside    one of them

The leader is killed with -9 under 20 market orders a second, every 12 s. Three gateways: one that acknowledges `at_once`; one
that takes each order at once and tells everything 20 to 300 ms `late` (so it answers the takeover's questions, too); one that has
each order `inside` for 20 to 300 ms, in no list and in no callback, and takes it then, also when its session has ended.

Counted from the database's log: an order is open while the ledger does not know what became of it, and in doubt once a break says
so. It counts for the kill that ended its session, also where the next takeovers come before its 60 s are over: kills are 12 s
apart, and what 60 s after a takeover still is in doubt, four later takeovers have looked at, too. A takeover that was not watched
for so long does not count for that moment; the last one is. Nor does a kill in whose last second fewer than 10 orders were
accepted. An operator calls dead what is in doubt for longer than that, so that
its contract trades again. How far each order came is known by the broker's journal and by notes that the replicas make before and
behind each write (`bench.written`).

Ctrl-C ends the kills, and what there was is counted.
`--keep DIR` keeps the logs of both replicas, the database's log and the journal, by gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from bench.doubt_count import MOMENTS, Kill, Note, felt, note_writes, summary, unanswered, windows
from bench.failover import RESULTS, Bench, ended, keep, progress
from bench.figures import rows, spread
from ha.local.pair import LocalPair
from ha.local.parts import Commands
from ha.local.ports import Ports
from tests.chaos.check import Row
from tests.chaos.evidence import database_log

ROOT = Path(__file__).parent.parent
ALWAYS = 1 << 30
ARMS: dict[str, tuple[str, dict[str, int]] | None] = {
    "at_once": None,
    "late": ("delay", {"ms": 20, "most_ms": 300}),
    "inside": ("hold_inside", {"ms": 20, "most_ms": 300, "next": ALWAYS}),
}
WATCHED = max(MOMENTS) + 1.0  # seconds


class Doubts(Bench):
    """A pair whose replicas note their writes, its traffic, and kills at a fixed distance."""

    def __init__(self, directory: Path, asked: argparse.Namespace, arm: str) -> None:
        super().__init__(directory, asked.rate, asked.resting, asked.kills * (asked.apart + 60.0) + WATCHED + 60.0)
        self.fault, self.apart = ARMS[arm], asked.apart
        self._due = time.monotonic()  # when the next kill may come
        self.writes = directory / "writes"
        self.writes.mkdir()
        own = {"PYTHONPATH": str(ROOT), "BENCH_WRITES": str(self.writes)}
        self.pair = LocalPair(
            directory / "pair", ports=Ports.free(), env={"PATH": "/usr/bin:/bin", "MAX_INTENT_AGE_LMT": "600"},
            part_env={"a": own, "b": own}, commands=Commands(replica=(sys.executable, "-m", "bench.written")),
        )  # fmt: skip

    async def figures(self, kills: int) -> dict[str, Any]:
        """Run, and count."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as self.http:
            await self.pair.start()
            try:
                return await self._figures(kills)
            finally:
                await self.pair.stop()

    async def _figures(self, count: int) -> dict[str, Any]:
        if self.fault is not None:
            await self._post(f"{self._control}/faults/{self.fault[0]}", self.fault[1])
        await self._rest_orders(await self._leader())
        traffic = await self._traffic()
        kills: list[Kill] = []
        try:
            while len(kills) < count:
                with contextlib.suppress(
                    aiohttp.ClientError, TimeoutError
                ):  # on a busy machine a leader may step down by itself
                    kills.append(await self._kill(len(kills)))
                    progress(len(kills), count)
            await asyncio.sleep(WATCHED)
        except asyncio.CancelledError:  # Ctrl-C ends the kills; what there was is counted
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
        finally:
            until = datetime.now(UTC)
            await ended(traffic)
        log = await asyncio.to_thread(database_log, self.pair.info()["migrate_database_url"])
        journal = (await self._get(f"{self._control}/journal"))["entries"]
        kills = felt(kills, log)
        self._keep_evidence(log, journal, kills)
        found = unanswered(log, journal, kills)
        notes = [
            [note for line in path.read_text().splitlines() if (note := Note.read(line)) is not None]
            for path in self.writes.iterdir()
        ]
        note_writes(found, [note for process in notes for note in process])
        found_windows = [windows(process) for process in notes]
        (self.directory / "evidence" / "open.json").write_text(json.dumps([repr(order) for order in found], indent=1))
        return {
            "apart_s": self.apart, **summary(found, kills, until), "orders": sum(row.kind == "order_accepted" for row in log),
            "commit_answered_to_written_ms": spread([ms for whole, _ in found_windows for ms in whole]),
            "of_this_the_write_ms": spread([ms for _, write in found_windows for ms in write]),
        }  # fmt: skip

    async def _kill(self, number: int) -> Kill:
        """The next kill, once the pair is whole and the time has come. Raises TimeoutError, aiohttp.ClientError."""
        leader = await self._ready_pair()
        await self._call_dead(leader)
        await asyncio.sleep(
            max(self._due - time.monotonic(), 0.0) + (number * 0.37) % 0.05
        )  # anywhere between two arrivals
        epoch = (await self._get(f"{leader}/health"))["epoch"]
        self._due = time.monotonic() + self.apart
        change = await self._change(leader, planned=False)
        return Kill(change.at, epoch, datetime.now(UTC))

    async def _call_dead(self, leader: str) -> None:
        """What was in doubt for longer than anybody counts: so that its contract trades again."""
        old = datetime.now(UTC) - timedelta(seconds=WATCHED)
        for found in (await self._get(f"{leader}/api/v1/breaks"))["breaks"]:
            doubted = found["kind"] == "in_doubt" and found["resolved_at"] is None
            if doubted and datetime.fromisoformat(found["opened_at"]) < old:
                await self._post(f"{leader}/api/v1/breaks/{found['id']}", {"resolution": "dead", "reason": "counted"})

    @property
    def _control(self) -> str:
        return f"http://127.0.0.1:{self.pair.ports.control}"

    async def _get(self, url: str) -> Any:
        async with self.http.get(url) as answer:
            return await answer.json()

    async def _post(self, url: str, body: dict[str, Any]) -> None:
        async with self.http.post(url, json=body) as answer:
            if answer.status != 200:
                print(f"{url}: {answer.status} {await answer.text()}", file=sys.stderr)

    def _keep_evidence(self, log: Sequence[Row], journal: list[dict[str, Any]], kills: list[Kill]) -> None:
        """What was counted from, for a person who asks why."""
        directory = self.directory / "evidence"
        directory.mkdir()
        told = ([row.seq, row.epoch, row.kind, row.order_id, row.payload, f"{row.at:%H:%M:%S.%f}"] for row in log)
        (directory / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
        (directory / "journal.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in journal))
        (directory / "kills.jsonl").write_text(
            "".join(f"{k.at:%H:%M:%S.%f} {k.epoch} {k.led_at:%H:%M:%S.%f}\n" for k in kills)
        )


def main(argv: list[str] | None = None) -> int:
    """Run, print a table for each gateway, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="of the leader, at each gateway")
    parser.add_argument("--arm", action="append", choices=list(ARMS), help="one gateway only (all three)")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--apart", type=float, default=12.0, help="seconds between two kills, at least")
    parser.add_argument("--resting", type=int, default=100)
    parser.add_argument("--keep", type=Path, default=None, help="a directory for the logs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that the figures go to")
    asked = parser.parse_args(argv)
    for arm in asked.arm or ARMS:
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="pa-bench-") as directory:
            Path(directory).chmod(0o755)
            bench = Doubts(Path(directory), asked, arm)
            try:
                figures = asyncio.run(bench.figures(asked.kills))
            finally:
                if asked.keep is not None:
                    for part in (Path("pair") / "log", Path("evidence"), Path("writes")):
                        if (bench.directory / part).exists():
                            shutil.copytree(bench.directory / part, asked.keep / arm / part.name, dirs_exist_ok=True)
        figures |= {"load_average_before": round(before, 2), "load_average_behind": round(os.getloadavg()[0], 2)}
        keep(f"doubts_{arm}", figures, asked.results)
        show(arm, figures)
    return 0


def show(arm: str, figures: dict[str, Any]) -> None:
    """Print the table of one gateway."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "figure", title=f"doubts: a gateway that acknowledges {arm}")
    for what, figure in rows(figures):
        table.add_row(what, figure)
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
