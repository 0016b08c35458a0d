"""`python -m tests.chaos --minutes 15 --seed 7`: random faults at a pair under traffic, round after round, judged each time.

What happened lies in OUT/record.jsonl as soon as a round is over; report.txt and report.html are made from it at the end,
and what is left of a bad round lies in OUT/round-N.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO

from rich.console import Console

from ha.demo.report import console_for
from ha.local.pair import StartFailed
from tests.chaos import report, report_text
from tests.chaos.catalogue import CATALOGUE, Entry, Form, Kind, Need, possible, why_not
from tests.chaos.check import LEAST_ASKED
from tests.chaos.cluster import NotHealed
from tests.chaos.clusters import Clusters
from tests.chaos.parts import ROOT
from tests.chaos.progress import Progress, Status, replicas_line
from tests.chaos.record import Round, Run, end_line, line, round_line, run_line
from tests.chaos.rounds import Setting, play
from tests.chaos.schedule import Plan, as_json, load, rounds, schedule, told

RECORD = "record.jsonl"
LEAST_RATE = LEAST_ASKED / 2 + 2.0
"""Orders a second, of which two seconds are `LEAST_ASKED`, with some to spare."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 = every round was fine, 1 = one was not or none was judged, 2 = wrong usage, 130 = stopped, and fine so far."""
    options = _arguments(argv)
    entries = possible(options.form, options.only or tuple(Kind))
    if options.list:
        whole = not options.plans and options.round is None
        plans = schedule(options.seed, options.minutes * 60, entries) if whole else _plans(options, entries)
        print("\n".join(text for plan in plans for text in told(plan)))
        return 0
    for need in Need:
        if (lacking := why_not(need)) is not None:
            print(f"without faults that need it: {lacking}", file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    console = console_for()
    with (options.out / RECORD).open("w", encoding="utf-8") as file:
        stopped = asyncio.run(_Game(options, entries, file, console).run())
    found = report.write(options.out / RECORD)
    console.print(report_text.text(found), soft_wrap=True, markup=False, highlight=False)
    console.print(f"\n{options.out / 'report.html'}", soft_wrap=True)
    if found.bad or not found.rounds:
        return 1
    return 130 if stopped else 0


class _Game:
    """One run. What it leaves is written line by line."""

    def __init__(self, options: argparse.Namespace, entries: Sequence[Entry], file: IO[str], console: Console) -> None:
        self._options, self._entries, self._file = options, entries, file
        self._status = Status(options.minutes)
        self._clusters = Clusters(
            options.out, self._tell, hosts=options.form is Form.HOSTS, settings=_settings(entries)
        )  # fmt: skip
        self._progress = Progress(console, self._status, self._replicas)
        catalogue = {entry.name: entry for entry in CATALOGUE.values()}
        self._setting = Setting(
            catalogue=catalogue, form=options.form, rate=options.rate, tell=self._tell, came=self._status.came
        )

    async def run(self) -> bool:
        """Play until the time or the schedule is over; returns whether it was stopped by hand instead."""
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        options = self._options
        self._write(run_line(_about(options)))
        self._tell(f"seed {options.seed}, {options.form} form, {options.rate:g} orders a second; {options.out}")
        showing = asyncio.create_task(self._progress.run())
        why, stopped = "it broke", False
        try:
            async with self._clusters:
                await self._play_all()
            why = "its time was over" if options.minutes is not None else "its schedule was over"
        except asyncio.CancelledError:
            why, stopped = "it was stopped by hand; the round that was going on then was not judged", True
        except (StartFailed, NotHealed) as error:
            why = f"no cluster could be started: {error}"
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing
            self._write(end_line(why, self._status.elapsed))
        return stopped

    async def _play_all(self) -> None:
        options = self._options
        for plan in _plans(options, self._entries):
            if options.minutes is not None and self._status.elapsed > options.minutes * 60:
                return
            self._write(line("plan", as_json(plan)))
            await self._play(plan)

    async def _play(self, plan: Plan) -> None:
        status = self._status
        status.doing = f"round {plan.number}: waiting for a whole pair"
        cluster = await self._clusters.whole()
        status.doing = f"round {plan.number} on cluster {self._clusters.number}"
        played = await play(cluster, plan, self._setting, self._clusters.number, _replay(self._options, plan))
        found = played.record
        if not found.ok:
            status.doing = f"keeping what is left of round {plan.number}"
            found = replace(found, kept=str(await self._clusters.lay_by(plan, played)))
        self._write(round_line(found))
        status.judged(found)
        self._tell(_judged(found), "green" if found.ok else "bold red")
        for problem in found.problems[:6]:
            self._tell(f"  {problem}", "red")

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _tell(self, sentence: str, style: str = "") -> None:
        self._progress.tell(sentence, style)

    def _replicas(self) -> str:
        present = self._clusters.present
        return "" if present is None else replicas_line(present.scene)


def _judged(one: Round) -> str:
    counts = one.counts
    orders = (
        f"{counts.get('asked', 0)} orders, {counts.get('taken', 0)} at the broker, {counts.get('in_doubt', 0)} in doubt"
    )
    return f"round {one.number} {'is fine' if one.ok else 'IS BAD'}: {orders}, {one.took:.0f} s"


def _settings(entries: Sequence[Entry]) -> dict[str, str]:
    """What the replicas must have been started with for any of these faults."""
    return {name: value for entry in entries for name, value in entry.settings.items()}


def _plans(options: argparse.Namespace, entries: Sequence[Entry]) -> Iterable[Plan]:
    return _chosen(options.plans or rounds(options.seed, entries), options.round)


def _chosen(plans: Iterable[Plan], number: int | None) -> Iterable[Plan]:
    """All of them, or the one of that number."""
    return plans if number is None else islice((plan for plan in plans if plan.number == number), 1)


def _about(options: argparse.Namespace) -> Run:
    return Run(
        seed=options.seed, minutes=options.minutes or 0.0, form=str(options.form), rate=options.rate,
        began=datetime.now(UTC).isoformat(), kinds=[str(kind) for kind in options.only],
        source="" if options.replay is None else str(options.replay), version=_version(),
    )  # fmt: skip


def _version() -> str:
    """The commit that is played, where git knows it."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _replay(options: argparse.Namespace, plan: Plan) -> str:
    """The command that plays exactly this round again."""
    same = f" --form {options.form} --rate {options.rate:g}"
    return f"python -m tests.chaos --replay {options.out / RECORD} --round {plan.number}{same}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=None, help="no round begins later (default 15)")
    parser.add_argument("--seed", type=int, default=None, help="draws the same schedule again (default: random)")
    parser.add_argument("--out", type=Path, default=None, help="directory for the record and the reports")
    parser.add_argument("--form", type=Form, choices=list(Form), default=Form.LOOPBACK)
    parser.add_argument("--only", default="", help=f"only these kinds of faults, of {','.join(Kind)}")
    parser.add_argument("--rate", type=float, default=25.0, help="orders a second (default 25)")
    parser.add_argument("--replay", type=Path, default=None, help="play the schedule that a run has recorded")
    parser.add_argument("--round", type=int, default=None, help="only this one")
    parser.add_argument("--list", action="store_true", help="print the schedule and play nothing")
    options = parser.parse_args(argv)
    try:
        options.only = [Kind(word) for word in options.only.split(",") if word]
        options.plans = [] if options.replay is None else load(options.replay.read_text(encoding="utf-8"))
        _refuse(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    if options.minutes is None and not options.plans and options.round is None:
        options.minutes = 15.0
    if options.out is None:
        options.out = ROOT / "build" / "chaos" / f"{time.strftime('%Y%m%d-%H%M%S')}-seed-{options.seed}"
    return options


def _refuse(options: argparse.Namespace) -> None:
    """Raises ValueError with a sentence for what cannot be played."""
    if options.rate < LEAST_RATE:
        raise ValueError(f"below {LEAST_RATE:g} orders a second no fault counts")
    if options.minutes is not None and options.minutes <= 0:
        raise ValueError("the minutes must be above 0")
    unknown = {act.name for plan in options.plans for act in plan.acts} - set(CATALOGUE)
    if unknown:
        raise ValueError(f"{options.replay} has faults that are unknown here: {', '.join(sorted(unknown))}")
    numbers = [plan.number for plan in options.plans]
    if options.round is not None and (options.round not in numbers if numbers else options.round < 1):
        raise ValueError(f"there is no round {options.round}")
