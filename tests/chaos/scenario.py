"""One scenario: orders flow, faults strike at their time, and when all has healed everything recorded is judged."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ha.demo.collect import Reader, Settled
from ha.demo.findings import InDoubt
from ha.demo.history import History, fold, read_lines
from ha.demo.judge import Verdict
from ha.demo.scene import Glimpse
from ha.demo.silence import Kill as Killed
from ha.demo.silence import Silence
from ha.local.process import Child
from tests.chaos.check import Bite, Entry, Examined, Facts, Overlap, Probe, Row, examine
from tests.chaos.cluster import CLIENT_ID, HEALS_WITHIN, INTENT_AGE, Cluster
from tests.chaos.evidence import stopwatch
from tests.chaos.faults import Fault
from tests.chaos.held import licensed_while_held
from tests.chaos.traffic import Load, Prober, finished, flowing, moving_market

FIGURES = "CHAOS_FIGURES"
"""Names a file to which a line with each scenario's figures is appended."""


@dataclass(frozen=True, slots=True)
class Step:
    """A fault, so many seconds after the one before it was over (the first: after the first order)."""

    after: float
    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a scenario left: the judge's verdict, our own checks, and the facts they were made from."""

    name: str
    verdict: Verdict
    examined: Examined
    notes: Sequence[str]
    bites: Sequence[Bite]
    history: History
    entries: Sequence[Entry]
    """The clients' record, step by step."""
    journal: Sequence[Entry]
    log: Sequence[Row]
    probes: Sequence[Probe]
    terms: Sequence[Mapping[str, Any]]
    since: int
    epoch_before: int
    epoch_after: int
    last_words: str = field(repr=False, default="")

    @property
    def overlaps(self) -> list[Overlap]:
        """Times for which both replicas said that they lead."""
        return self.examined.overlaps

    @property
    def silences(self) -> list[Silence]:
        """How long nothing reached the broker, and nothing was accepted, around each fault that silenced a leader."""
        return self.verdict.silences

    @property
    def doubts(self) -> list[InDoubt]:
        """Orders of this scenario's clients that are in doubt; a pair may keep others from before."""
        return [doubt for doubt in self.verdict.in_doubt if doubt.client_order_id in self.history.orders]

    def problems(self) -> list[str]:
        """Everything that is wrong, a sentence each."""
        cases = [
            str(case)
            for kind in (
                self.verdict.lost, self.verdict.duplicated, self.verdict.phantom, self.verdict.contradicted,
                self.verdict.twins_missed, self.verdict.unbooked, self.verdict.positions_differ,
            )
            for case in kind[:3]
        ]  # fmt: skip
        return [*self.verdict.problems(), *self.examined.problems, *self.notes, *cases]

    def must_be_fine(self) -> None:
        """Fails the test with everything that is wrong and what the replicas said last."""
        if found := self.problems():
            raise AssertionError("\n".join([f"{self.name}:", *found, self.last_words]))

    def figures(self) -> str:
        """One line for the record."""
        verdict = self.verdict
        silences = ", ".join(
            f"{_ms(one.broker_ms)} at the broker, {_ms(one.accepted_ms)} accepted" for one in verdict.silences
        )
        counts = (
            f"{verdict.asked} asked, {verdict.answered} answered, {verdict.taken} taken, {len(self.doubts)} in doubt"
        )
        both = max((one.most_ms for one in self.overlaps), default=0.0)
        return (
            f"{self.name}: {counts}, not sent {verdict.unsent}; epoch {self.epoch_before} -> {self.epoch_after}; "
            f"silence {silences or 'none'}; both led for {both:.0f} ms at most"
        )


async def play(
    cluster: Cluster,
    name: str,
    steps: Sequence[Step],
    load: Load | None = None,
    seed: int = 1,
    flows_on: float | None = None,
) -> Outcome:
    """Let orders flow and the faults strike; returns when the pair is whole and at rest, or cannot be.

    With `flows_on`, orders are asked for as long as faults strike and so many seconds more, at most those of `load`.
    Raises DidNotBite, NotHealed, NothingToJudge.
    """

    async def strike(traffic: Child) -> list[Bite]:
        bites = await _strike(cluster, steps)
        if flows_on is not None:
            await asyncio.sleep(flows_on)
            traffic.send(signal.SIGTERM)
        await finished(traffic)
        return bites

    took = stopwatch()
    outcome = await flow(cluster, name, strike, load or Load(), seed)
    _note(outcome, took())
    return outcome


async def flow(
    cluster: Cluster, name: str, strike: Callable[[Child], Awaitable[list[Bite]]], load: Load, seed: int
) -> Outcome:
    """Let orders flow while `strike` does its work, to which the traffic's process is given; it returns what took effect,
    when the traffic has ended. Raises what `strike` raises, NotHealed, NothingToJudge.
    """
    symbols = await cluster.symbols()
    start = await cluster.broker("GET", "/prices")
    prices = {symbol: Decimal(start[symbol]) for symbol in symbols}
    since, epoch_before = (await cluster.journal())[-1]["seq"], cluster.epoch()
    before = await asyncio.to_thread(cluster.log)
    record = cluster.directory / f"history-{datetime.now(UTC):%H%M%S%f}.jsonl"
    said = cluster.directory / "log" / "traffic.log"
    async with (
        Prober(cluster.urls) as prober,
        moving_market(cluster.control, prices, seed),
        flowing(load, cluster.client_urls.values(), prices, record, said, seed, cluster.token) as traffic,
    ):
        bites = await strike(traffic)
    cluster.scene.kills[:] = [
        Killed(bite.replica, cluster.client_urls[bite.replica], bite.at) for bite in bites if bite.replica is not None
    ]
    settled = await _settled(cluster, record, since)
    await cluster.paired()  # a single look that came too late on a busy machine is no finding
    standing = dict(cluster.scene.glimpses)
    return await _outcome(cluster, name, settled, record, bites, prober.probes, since, epoch_before, before, standing)


async def _strike(cluster: Cluster, steps: Sequence[Step]) -> list[Bite]:
    bites = []
    for step in steps:
        await asyncio.sleep(step.after)
        bites.append(await step.fault.strike(cluster))
    return bites


async def _settled(cluster: Cluster, record: Path, since: int) -> Settled:
    await cluster.paired()
    reader = Reader(cluster.urls, cluster.control, record, cluster.scene, since=since, token=cluster.token)
    return await reader.settle(HEALS_WITHIN)


async def _outcome(
    cluster: Cluster,
    name: str,
    settled: Settled,
    record: Path,
    bites: Sequence[Bite],
    probes: Sequence[Probe],
    since: int,
    epoch_before: int,
    before: Sequence[Row],
    standing: Mapping[str, Glimpse | None],
) -> Outcome:
    entries = _read(record)
    history = fold(entries)
    journal, log = await cluster.journal(), await asyncio.to_thread(cluster.log)
    facts = Facts(
        history=history, journal=journal, log=log, probes=probes, bites=bites, client_id=CLIENT_ID,
        since=since, intent_age=INTENT_AGE, in_doubt=settled.verdict.in_doubt, leaders=await cluster.leaders(),
        before=before, silences=settled.verdict.silences, standing=standing, budget=HEALS_WITHIN,
        claims=await asyncio.to_thread(cluster.claims),
    )  # fmt: skip
    held = licensed_while_held(settled.verdict.sent_while_held, log)
    verdict = replace(settled.verdict, sent_while_held=held)
    return Outcome(
        name=name, verdict=verdict, examined=examine(facts), notes=settled.notes, bites=bites, history=history,
        entries=entries, journal=journal, log=log, probes=probes, terms=settled.history, since=since, epoch_before=epoch_before,
        epoch_after=cluster.epoch(), last_words=cluster.last_words(),
    )  # fmt: skip


def _read(record: Path) -> list[dict[str, Any]]:
    return read_lines(record.read_text(encoding="utf-8"))


def _note(outcome: Outcome, seconds: float) -> None:
    line = f"{outcome.figures()}; {seconds:.1f} s in all"
    print(line)
    if (path := os.environ.get(FIGURES)) is not None:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _ms(value: float | None) -> str:
    return "no end" if value is None else f"{value:.0f} ms"
