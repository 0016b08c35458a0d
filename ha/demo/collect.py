"""Fetches the evidence from a pair at rest, and has it judged until it is at rest or the time is up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ha.demo.fetch import Fetch, FetchFailed
from ha.demo.history import fold, read_lines
from ha.demo.judge import Evidence, Verdict, judge
from ha.demo.scene import Scene

AGAIN_AFTER = 0.3


class NothingToJudge(Exception):
    """The ledger or the journal could not be read until the time was up."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The last judgement. `notes` say what did not come to rest; they are empty when all did."""

    verdict: Verdict
    history: Sequence[Mapping[str, Any]]
    traffic: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=list)


class Reader:
    """Reads the ledger from the leader, the rest from the stand-in and the clients' file."""

    def __init__(
        self,
        urls: Mapping[str, str],
        control: str,
        record: Path,
        scene: Scene,
        *,
        since: int,
        token: str | None = None,
    ) -> None:
        self._token = token
        self._urls = urls
        self._control = control
        self._record = record
        self._scene = scene
        self._since = since

    async def settle(self, seconds: float) -> Settled:
        """Judges again until nothing is on its way and nothing is wrong that time could mend, or the time is up.

        What is merely late is then no defect, and what is a defect stays one. Raises NothingToJudge.
        """
        give_up_at = time.monotonic() + seconds
        async with Fetch(timeout=5.0, token=self._token) as fetch:
            while True:
                late = time.monotonic() >= give_up_at
                try:
                    settled = await self._judge(fetch)
                except FetchFailed as error:
                    if late:
                        raise NothingToJudge(str(error)) from error
                else:
                    if late or not (settled.verdict.may_be_late or settled.notes):
                        return settled
                await asyncio.sleep(AGAIN_AFTER)

    async def _judge(self, fetch: Fetch) -> Settled:
        leader = self._scene.leader()
        if leader is None:
            raise FetchFailed(self._scene.disagreement() or "no leader is seen")
        ledger = f"{self._urls[leader]}/api/v1"
        orders = await fetch.pages(f"{ledger}/orders", "orders")
        executions = await fetch.pages(f"{ledger}/executions", "executions")
        positions = (await fetch.get(f"{ledger}/positions"))["positions"]
        breaks = (await fetch.get(f"{ledger}/breaks"))["breaks"]
        history = (await fetch.get(f"{ledger}/history"))["history"]
        journal = (await fetch.get(f"{self._control}/journal"))["entries"]
        broker_positions = (await fetch.get(f"{self._control}/positions"))["positions"]
        entries = read_lines(self._record.read_text(encoding="utf-8"))
        verdict = judge(
            Evidence(
                history=fold(entries),
                journal=journal,
                broker_positions=broker_positions,
                orders=orders,
                executions=executions,
                positions=positions,
                breaks=breaks,
                kills=self._scene.kills,
                since=self._since,
            )
        )
        ends = [entry for entry in entries if entry.get("op") == "run" and entry.get("kind") == "end"]
        return Settled(verdict, history, ends[-1] if ends else {}, _unsettled(orders, self._scene))


def _unsettled(orders: Sequence[Mapping[str, Any]], scene: Scene) -> list[str]:
    """What is still on its way, a sentence each."""
    moving = [order for order in orders if order["state"] in {"QUEUED", "SENDING"}]
    notes = [f"{len(moving)} orders are still on their way, {moving[0]['id']} {moving[0]['state']}"] if moving else []
    disagreement = scene.disagreement()
    return [*notes, disagreement] if disagreement else notes
