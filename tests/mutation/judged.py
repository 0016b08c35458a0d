"""Does the judge see a mutant, and in which run? In the simulation (a run is a seed) or on the cluster (a run is a scenario)."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ha.demo.collect import NothingToJudge
from tests.chaos.cluster import Cluster, NotHealed
from tests.chaos.faults import DidNotBite
from tests.chaos.scenario import play
from tests.mutation.hook import ROOT, on_path
from tests.mutation.mutant import InSimulation, Mutant, OnCluster
from tests.mutation.scenes import SCENES

SECONDS = 900.0
IDLE = 5
"""Runs that may not count, because the fault did not bite or the runs before left too few contracts, before it is enough."""


@dataclass(frozen=True, slots=True)
class Seen:
    """In which run the judge named something (None: in none of `runs`), and what."""

    caught_in: int | None
    runs: int
    said: str


def by_judge(mutant: Mutant, runs: int) -> Seen:
    """Let it run until the judge names something, at most so often."""
    match mutant.judged:
        case InSimulation():
            return _simulated(mutant, mutant.judged, runs)
        case OnCluster(scene=scene):
            seen = asyncio.run(_played(mutant.name, scene, runs))
            if seen.caught_in is not None and (whole := as_it_is(scene, 1)).caught_in is not None:
                return Seen(
                    None,
                    runs,
                    f"run {seen.caught_in} found {seen.said}, and so it does without the mutant: {whole.said}",
                )
            return seen
        case None:
            raise LookupError(f"{mutant.title} is not for the judge")


@functools.cache
def as_it_is(scene: str, runs: int) -> Seen:
    """The same scenario without a mutant: it must find nothing."""
    return asyncio.run(_played(None, scene, runs))


# ---- the simulation: a process that has the mutant from its start, and one that has not for the seed that was caught


def _simulated(mutant: Mutant, where: InSimulation, runs: int) -> Seen:
    with on_path(mutant.name) as path:
        found = _seeds(where, 1, runs, where.mutation, {"PYTHONPATH": path})
    if found["seed"] is None:
        return Seen(None, runs, "no seed violated anything")
    whole = _seeds(where, found["seed"], 1, None, {})
    if whole["seed"] is not None:
        return Seen(None, runs, f"seed {found['seed']} fails without the mutant too: {whole['said']}")
    return Seen(found["seed"], found["seed"], found["said"])


def _seeds(where: InSimulation, first: int, runs: int, mutation: str | None, env: dict[str, str]) -> dict[str, object]:
    asked = json.dumps([first, runs, list(where.faults), mutation])
    command = [sys.executable, "-m", "tests.mutation.judged", asked]
    said = subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    if said.returncode != 0:
        raise RuntimeError(f"the simulation ended with {said.returncode}: {said.stderr.strip()[-400:]}")
    answer: dict[str, object] = json.loads(said.stdout.splitlines()[-1])
    return answer


def _simulate(asked: str) -> None:
    """In the process that the mutant was put into: the first of these seeds that violates something."""
    from tests.simulation.run import many

    first, runs, faults, mutation = json.loads(asked)
    for outcome in many(
        range(first, first + runs), processes=2, mutation=mutation, only=tuple(faults), stop_at_first=True
    ):
        if outcome.violations:
            print(json.dumps({"seed": outcome.seed, "said": outcome.violations[0].splitlines()[0]}))
            return
    print(json.dumps({"seed": None, "said": ""}))


# ---- the cluster: its parts have the mutant from their start, this process, which judges, has not


async def _played(mutant: str | None, scene: str, runs: int) -> Seen:
    """`mutant` None: as the product is."""
    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="mutant-chaos-"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        settings = {} if mutant is None else {"PYTHONPATH": stack.enter_context(on_path(mutant))}
        lender = _Lender(place, settings)
        try:
            return await _runs(lender, scene, runs)
        finally:
            await lender.give_up()


async def _runs(lender: _Lender, scene: str, runs: int) -> Seen:
    run = idle = 0
    while run < runs and idle < IDLE:
        try:
            said = await _one(await lender.cluster(), scene, run + 1)
        except DidNotBite as no:
            print(f"  does not count: {no}", flush=True)
            idle += 1
            continue
        except (NotHealed, NothingToJudge) as error:
            said = str(error).splitlines()[0]
            await lender.give_up()
            if "contracts are not held" in said:  # by what the runs before left, as it should be
                idle += 1
                continue
        run += 1
        if said:
            return Seen(run, run, said)
    return Seen(None, run, "no problem was found")


class _Lender:
    """A cluster with these settings, another one when the last was given up."""

    def __init__(self, place: Path, settings: dict[str, str]) -> None:
        self._place, self._settings = place, settings
        self._number = 0
        self._present: Cluster | None = None

    async def cluster(self) -> Cluster:
        """A whole one. Raises NotHealed."""
        if self._present is None:
            self._number += 1
            self._present = Cluster(self._place / f"pair{self._number}", settings=self._settings)
            await self._present.start()
        return self._present

    async def give_up(self) -> None:
        """End it."""
        present, self._present = self._present, None
        if present is not None:
            with suppress(OSError):
                await present.stop(keep=os.environ.get("CHAOS_KEEP"))


async def _one(cluster: Cluster, scene: str, seed: int) -> str:
    """What the judge said first, "" when all was well."""
    played = SCENES[scene]
    if played.arms is not None:
        await cluster.renew(["a", "b"], dict.fromkeys(("a", "b"), played.arms))
    outcome = await play(cluster, scene, played.steps(), played.load, seed)
    problems = outcome.problems()
    for problem in problems[:6]:
        print(f"  {problem}", flush=True)
    return "; ".join(dict.fromkeys([*problems[:1], *outcome.examined.problems[:1]]))


if __name__ == "__main__":
    _simulate(sys.argv[1])
