"""The clusters of a long run, one after the other; what is left of a bad round is kept, everything else thrown away."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ha.local.pair import StartFailed
from tests.chaos.cluster import Cluster, NotHealed
from tests.chaos.desk import tidied
from tests.chaos.rounds import Played, Tell
from tests.chaos.schedule import Plan, told

FRESH_AFTER = 8  # rounds: what the judge reads grows with all that a cluster has done
TRIES = 3
TIDY_WITHIN = 20.0  # seconds for answers to orders in doubt, between two rounds
# Removes the directory when its standard input ends, which it does however the process that holds the other end dies. The
# guardian ends the processes in the meantime, and until it has they may still write.
_JANITOR = """
import shutil, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
sys.stdin.buffer.read()
for _ in range(120):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    time.sleep(0.25)
    try: open(sys.argv[1]).close()
    except FileNotFoundError: break
    except OSError: pass
"""


class Clusters:
    """Hands out a whole pair, a fresh one after a bad round or when the present one is old. An async context manager:
    no process and no file of it is left, not even when this process is killed."""

    def __init__(
        self, keep: Path, tell: Tell, *, hosts: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        self._keep, self._tell, self._hosts, self._settings = keep, tell, hosts, dict(settings or {})
        self._present: Cluster | None = None
        self._played = 0
        self.number = 0
        """Of the present cluster, from 1."""

    @property
    def present(self) -> Cluster | None:
        """The one that runs now."""
        return self._present

    async def __aenter__(self) -> Clusters:
        self._place = Path(tempfile.mkdtemp(prefix="chaos-"))
        self._janitor = _janitor(self._place)
        return self

    async def __aexit__(self, *_unused: object) -> None:
        await self.discard()
        await asyncio.to_thread(self._janitor.communicate)

    async def whole(self) -> Cluster:
        """A pair with a leader, a healthy standby, and contracts that nothing holds. Raises StartFailed, NotHealed."""
        if self._present is not None and self._played >= FRESH_AFTER:
            self._tell("the next rounds get a fresh cluster")
            await self.discard()
        if self._present is not None:
            try:
                await tidied(self._present, TIDY_WITHIN)
                await self._present.symbols()
            except NotHealed as error:
                self._tell(f"the next round gets a fresh cluster: {error}")
                await self.discard()
        if self._present is None:
            self._present = await self._fresh()
        self._played += 1
        return self._present

    async def _fresh(self) -> Cluster:
        for attempt in range(1, TRIES + 1):
            self.number, self._played = self.number + 1, 0
            cluster = Cluster(self._place / f"pair{self.number}", hosts=self._hosts, settings=self._settings)
            try:
                await cluster.start()
            except (StartFailed, NotHealed) as error:
                self._tell(f"a cluster did not start: {error}")
                if attempt == TRIES:
                    raise
            else:
                return cluster
        raise AssertionError("unreachable")

    async def discard(self) -> None:
        """End the present pair, if there is one."""
        cluster, self._present = self._present, None
        if cluster is not None:
            await cluster.stop()

    async def lay_by(self, plan: Plan, played: Played) -> Path:
        """End the present pair after a bad round; everything that tells of it is laid into a directory, which is returned."""
        place = self._keep / f"round-{plan.number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        cluster, self._present = self._present, None
        place.joinpath("plan.txt").write_text("\n".join([*told(plan), "", *played.record.problems, ""]))
        if cluster is not None:
            try:
                rows = await asyncio.to_thread(cluster.log)
                _write(place / "log.jsonl", [asdict(row) for row in rows])
            except Exception as error:  # noqa: BLE001 - the database may be what is broken; the rest is kept
                place.joinpath("log.missing.txt").write_text(f"{type(error).__name__}: {error}\n")
            try:
                _write(place / "journal.jsonl", await cluster.journal())
            except Exception as error:  # noqa: BLE001 - or the gateway
                place.joinpath("journal.missing.txt").write_text(f"{type(error).__name__}: {error}\n")
            place.joinpath("last-words.txt").write_text(cluster.last_words(200))
            await cluster.stop(keep=os.fspath(place))
        if played.outcome is not None:
            _write(place / "probes.jsonl", [asdict(probe) for probe in played.outcome.probes])
            place.joinpath("verdict.json").write_text(json.dumps(played.outcome.verdict.as_json(), indent=1))
        return place


def _janitor(place: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-S", "-c", _JANITOR, str(place)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True, cwd="/")


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8")
