"""One run from one seed, and many of them.

python -m tests.simulation.run --seed N --trace    one, with all that happened
python -m tests.simulation.run --seeds 10000       many; each failing one is named with what it violated
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

from ha.etcd_access import leader_key
from ha.role import State as Role
from tests.simulation.clients import Clients, ask
from tests.simulation.database import Database
from tests.simulation.doors import doors
from tests.simulation.ending import leader_of, unsettled
from tests.simulation.etcd import Etcd
from tests.simulation.faults import FAULTS, Faults
from tests.simulation.gateway import Gateway
from tests.simulation.judge import LOOK_EVERY, Judge
from tests.simulation.loop import bury
from tests.simulation.mutations import MUTATIONS
from tests.simulation.replica import Replica
from tests.simulation.world import World

LEADER_WITHIN = 10.0
SETTLED_WITHIN = 40.0


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    seed: int
    violations: list[str]
    seconds: float  # virtual
    steps: int
    orders: int = 0
    epochs: int = 0
    leader_after: float | None = None  # virtual seconds from healing
    in_doubt: int = 0
    notes: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    states: set[str] = field(default_factory=set)


def simulate(seed: int, *, trace: bool = False, mutation: str | None = None, only: Sequence[str] = ()) -> Outcome:
    """One whole run. Everything in it follows from the seed, from what is broken first, and from the kinds of faults."""
    world = World(seed, trace=trace)
    world.judge = Judge(world)
    world.etcd = Etcd(world, leader_key("desk1"))
    world.database, world.gateway = Database(world), Gateway(world)
    world.replicas = {name: Replica(world, name) for name in "ab"}
    outcome = Outcome(seed, world.judge.violations, 0.0, 0)
    loop = world.loop
    try:
        with doors(world), ExitStack() as mutated:
            mutated.enter_context(MUTATIONS[mutation](world) if mutation else nullcontext())
            play = world.spawn(_play(world, outcome, only), "play")
            play.add_done_callback(lambda _: loop.stop(), context=world.context)
            loop.run_forever()
            if play.done():
                play.result()
            outcome.seconds, outcome.steps = world.now, loop.steps
            outcome.notes, outcome.trace = world.judge.notes, world.trace or []
            for task in asyncio.all_tasks(loop) | world.graveyard:
                bury(task)
    finally:
        loop.close()
    return outcome


async def _play(world: World, outcome: Outcome, only: Sequence[str]) -> None:
    faults, clients = Faults(world, only), Clients(world)
    schedule = faults.draw()
    for replica in world.replicas.values():
        world.after(world.chance.choice((0.0, world.chance.uniform(0.0, 0.5))), replica.start)
    world.after(LOOK_EVERY, world.judge.look)
    faults.start(schedule)
    clients.start(world.chance.randint(1, 3), schedule.healed_at + 0.5, world.chance.choice((0.1, 0.3, 0.6)))
    await asyncio.sleep(schedule.healed_at)
    faults.heal()
    healed = world.now
    world.spawn(_operator(world), "operator")
    while leader_of(world) is None:
        if world.now - healed > LEADER_WITHIN:
            states = {name: replica.running and replica.running.state for name, replica in world.replicas.items()}
            world.judge.violated("G7", f"no leader within {LEADER_WITHIN:g} s after everything was whole: {states}")
            return
        await asyncio.sleep(0.05)
    outcome.leader_after = world.now - healed
    await asyncio.sleep(1.0)
    clients.patient = False
    while left := unsettled(world, clients):
        if world.now - healed > SETTLED_WITHIN:
            for difference in left:
                world.judge.violated("end", difference)
            return
        await asyncio.sleep(0.25)
    _count(world, clients, outcome)


async def _operator(world: World) -> None:
    """Looks after what must wait for a person: a hold of everything (R18), once nothing is inside the gateway any more."""
    while not world.judge.violations:
        await asyncio.sleep(0.3)
        if world.gateway.inside:
            continue
        for replica in world.replicas.values():
            process = replica.running
            if process is None or process.state is not Role.HOLDING:
                continue
            for found in list(process.node.book.open_breaks.values()):
                if found.kind == "everything":
                    body = {"resolution": "looked", "reason": "the simulation's operator"}
                    answer = await ask(world, replica.name, "POST", f"/api/v1/breaks/{found.id}", body)
                    world.say("operator", f"resolves {found.id}: {answer and (answer.status, answer.body)}")


def _count(world: World, clients: Clients, outcome: Outcome) -> None:
    outcome.orders, outcome.epochs = sum(wish.acknowledged for wish in clients.wishes), world.judge.epoch
    leader = leader_of(world)
    if leader is not None:
        outcome.states = {str(order.state) for order in leader.node.book.orders.values()}
        outcome.in_doubt = sum(order.state == "IN_DOUBT" for order in leader.node.book.orders.values())


def _quietly(seed: int, mutation: str | None = None, only: Sequence[str] = ()) -> Outcome:
    outcome = simulate(seed, mutation=mutation, only=only)
    gc.collect(1)
    return outcome


def many(
    seeds: range,
    *,
    processes: int,
    seconds: float | None = None,
    at_least: int = 0,
    mutation: str | None = None,
    only: Sequence[str] = (),
    stop_at_first: bool = False,
) -> list[Outcome]:
    """Run these seeds, until `seconds` of real time are over and `at_least` so many are done, or until one fails."""
    began = time.monotonic()
    found: list[Outcome] = []
    with get_context("fork").Pool(processes) as pool:
        for outcome in pool.imap(partial(_quietly, mutation=mutation, only=only), seeds, chunksize=2):
            found.append(outcome)
            if outcome.violations and mutation is None:
                print(f"seed {outcome.seed}: {outcome.violations[0]}", flush=True)
            if outcome.violations and stop_at_first:
                break
            if seconds is not None and time.monotonic() - began > seconds and len(found) >= at_least:
                break
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--seed", type=int, help="one run")
    parser.add_argument("--trace", action="store_true", help="with all that happened in it")
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break the product in this way first")
    parser.add_argument("--only", default="", help="kinds of faults, separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    only = tuple(filter(None, arguments.only.split(",")))
    if unknown := set(only) - set(FAULTS):
        parser.error(f"no fault is called {', '.join(sorted(unknown))}; there are: {', '.join(sorted(FAULTS))}")
    if arguments.seed is not None:
        outcome = simulate(arguments.seed, trace=arguments.trace, mutation=arguments.mutation, only=only)
        print("\n".join(outcome.trace))
        print(f"seed {outcome.seed}: {outcome.violations or 'all guarantees hold'}; {outcome.seconds:.1f} virtual seconds, "
              f"{outcome.orders} orders, {outcome.epochs} epochs, leader {outcome.leader_after} s after healing")  # fmt: skip
        return 1 if outcome.violations else 0
    began = time.monotonic()
    found = many(
        range(arguments.first, arguments.first + arguments.seeds),
        processes=arguments.processes,
        mutation=arguments.mutation,
        only=only,
    )
    bad = [outcome for outcome in found if outcome.violations]
    virtual = sum(outcome.seconds for outcome in found)
    print(f"{len(found)} seeds, {virtual / 3600:.2f} virtual hours in {time.monotonic() - began:.0f} s, "
          f"{sum(o.orders for o in found)} orders, {sum(o.epochs for o in found)} epochs; {len(bad)} seeds fail")  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
