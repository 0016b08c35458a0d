"""What goes wrong, drawn from the seed: a handful of faults at moments of their own, and a climate of small ones between."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation.clients import ask
from tests.simulation.replica import Process, Replica
from tests.simulation.world import Fate, Link, Slowness, World


@dataclass(slots=True)
class Schedule:
    """When faults happen (virtual seconds), and when everything is whole again."""

    faults: list[tuple[float, str]]
    healed_at: float


class Faults:
    """Carries a schedule out. Each fault mends itself; `heal` mends what is left."""

    def __init__(self, world: World, only: Sequence[str] = ()) -> None:
        """`only` these kinds happen, where any are named."""
        self._world, self._chance, self._only = world, world.chance, tuple(only)
        self._mends: list[Callable[[], None]] = []
        self._over = False
        self._commits = world.fate.commit  # how long they take while nothing slows them down

    # ---- drawing

    def draw(self) -> Schedule:
        """A schedule and a climate."""
        chance = self._chance
        self._world.relay = chance.random() < 0.75
        self._world.fate = climate(chance)
        self._commits = self._world.fate.commit
        for replica in self._world.replicas.values():
            replica.skew = chance.uniform(-0.2, 0.2)
        length = chance.uniform(2.0, 8.0)
        moments = [chance.uniform(0.2, length * 0.7) for _ in range(chance.randint(1, 2))]
        kinds = [chance.choice(UNSEATING), *chance.sample(sorted(FAULTS), chance.randint(0, 3))]
        kinds = [chance.choice(self._only) for _ in kinds] if self._only else kinds
        faults = [(self._near(moments, length), kind) for kind in kinds for _ in range(chance.choice((1, 1, 2)))]
        return Schedule(sorted(faults), length)

    def _near(self, moments: list[float], length: float) -> float:
        """Mostly at about the same moment as others: what goes wrong together is worse than what goes wrong in turn."""
        if self._chance.random() < 0.3:
            return self._chance.uniform(0.0, length)
        return min(max(self._chance.choice(moments) + self._chance.gauss(0.0, 0.1), 0.0), length)

    def start(self, schedule: Schedule) -> None:
        """Let it begin."""
        for at, kind in schedule.faults:
            self._world.after(max(0.0, at - self._world.now), self._strike, kind)

    def _strike(self, kind: str) -> None:
        if not self._over:
            self._world.say("FAULT", kind)
            FAULTS[kind](self)

    def _until(self, seconds: float, mend: Callable[[], None]) -> None:
        """Have it mended after so long, or when everything is."""
        done = False

        def once() -> None:
            nonlocal done
            if not done:
                done = True
                mend()

        self._mends.append(once)
        self._world.after(seconds, once)

    def heal(self) -> None:
        """Everything is whole again and nothing goes wrong by chance."""
        self._over = True
        self._world.say("FAULT", "everything is whole again")
        for mend in self._mends:
            mend()
        self._mends.clear()
        self._world.fate.calm()
        for replica in self._world.replicas.values():
            for link in replica.links:
                link.mend()
            if replica.running is not None:
                replica.running.thaw()
            self._world.after(0.5, replica.start)

    def victim(self) -> Replica:
        """Mostly the leader."""
        replicas = list(self._world.replicas.values())
        leaders = [replica for replica in replicas if replica.leads]
        if leaders and self._chance.random() < 0.7:
            return self._chance.choice(leaders)
        return self._chance.choice(replicas)

    # ---- replicas

    def kill(self) -> None:
        self.victim().kill(host_gone=False, released=self._chance.random() < 0.6, down=self._chance.uniform(0.1, 3.0))

    def host_gone(self) -> None:
        victim = self.victim()
        holder = victim.running.broker.session if victim.running is not None and victim.running.broker else None
        victim.kill(host_gone=True, released=False, down=self._chance.uniform(0.5, 4.0))
        if holder is not None:
            gateway = self._world.gateway
            self._until(self._chance.uniform(2.0, 6.0), lambda: gateway.over(holder, "keepalive", tell=False))

    def stop(self) -> None:
        self.victim().stop_gracefully(self._chance.uniform(0.1, 2.0))

    def freeze(self) -> None:
        self._still(whole=True)

    def hang(self) -> None:
        self._still(whole=False)

    def _still(self, *, whole: bool) -> None:
        process: Process | None = self.victim().running
        if process is not None:
            seconds = self._chance.choice((self._chance.uniform(0.1, 1.2), self._chance.uniform(0.5, 5.0)))
            process.freeze(seconds, "a fault", whole=whole)

    # ---- what goes wrong together

    def ended_with_an_order_inside(self) -> None:
        """An order waits inside the gateway, unseen, while its session ends."""
        self._for_a_while("hold_inside", 1.0, 0.4)
        self._world.after(
            self._chance.uniform(0.1, 0.4), self._chance.choice((self.kill, self.relay_drops, self.freeze))
        )

    def ended_and_not_answered(self) -> None:
        """The same, and the gateway does not answer for every list."""
        self._for_a_while("unanswered", 0.4, 8.0)
        self.ended_with_an_order_inside()

    def answers_are_lost(self) -> None:
        """Statements are carried out, and nobody is told."""
        self._for_a_while("lost_reply", 0.2, self._chance.uniform(0.3, 1.0))

    def session_ends_under_a_commit(self) -> None:
        """Commits are slow while the session ends and the next one is opened."""
        self._slow(Slowness(0.001, 0.8, 0.5), self._chance.uniform(0.3, 1.5))
        self._world.after(self._chance.uniform(0.05, 0.2), self.relay_drops)

    def frozen_with_a_commit(self) -> None:
        """The leader stands still from the moment at which it sends a commit."""
        self._for_a_while("freeze_at_commit", 0.3, 0.5)

    def failpoints(self) -> None:
        self._for_a_while("die_at_point", self._chance.choice((0.002, 0.01, 0.05)))

    def freeze_writes(self) -> None:
        self._for_a_while("freeze_before_write", 0.1)

    # ---- etcd

    def revoke(self) -> None:
        etcd = self._world.etcd
        key = etcd.keys.get(etcd.leader_key)
        if key is not None and key.lease_id in etcd.leases:
            etcd.revoke(key.lease_id)

    def etcd_away(self) -> None:
        etcd = self._world.etcd
        if not etcd.away:
            etcd.go_away()
            self._until(self._chance.uniform(0.2, 6.0), etcd.come_back)

    # ---- links

    def cut_etcd(self) -> None:
        self._cut(self.victim().etcd_link)

    def cut_database(self) -> None:
        self._cut(self.victim().database_link)

    def cut_gateway(self) -> None:
        replica = self.victim()
        self._cut(replica.gateway_link)
        session = replica.running.broker.session if replica.running is not None and replica.running.broker else None
        if session is not None and self._chance.random() < 0.5:  # the relay gives a dead peer up
            gateway = self._world.gateway
            give_up = lambda: gateway.over(session, "the relay gave up", tell=True)  # noqa: E731
            self._world.after(self._chance.uniform(1.0, 5.0), give_up)

    def isolate(self) -> None:
        replica = self.victim()
        seconds = self._chance.uniform(0.3, 6.0)
        for link in replica.links:
            link.cut()
            self._until(seconds, link.mend)

    def _cut(self, link: Link) -> None:
        there, back = self._chance.choice(((True, True), (True, True), (True, False), (False, True)))
        link.cut(there=there, back=back)
        self._until(self._chance.uniform(0.1, 6.0), link.mend)

    # ---- the database

    def database_crash(self) -> None:
        database = self._world.database
        if database.up:
            database.crash()
            self._until(self._chance.uniform(0.05, 3.0), database.come_back)

    def slow_commits(self) -> None:
        self._slow(Slowness(0.001, 0.3, self._chance.choice((0.05, 0.4, 3.0))), self._chance.uniform(0.5, 4.0))

    def _slow(self, slow: Slowness, seconds: float) -> None:
        self._world.fate.commit = slow
        self._until(seconds, lambda: setattr(self._world.fate, "commit", self._commits))

    def end_a_backend(self) -> None:
        database = self._world.database
        if database.backends:
            database.end(self._chance.choice(list(database.backends.values())))

    def database_goes_back(self) -> None:
        database = self._world.database
        if database.up and not database.lost:
            database.go_back(self._chance.choice((self._chance.uniform(0.0, 0.1), self._chance.uniform(0.0, 1.0))))
            self._until(self._chance.uniform(0.05, 2.0), database.come_back)

    # ---- what operators do

    def switchover(self) -> None:
        self._switch_over(force=self._chance.random() < 0.5)

    def switchover_without_a_database(self) -> None:
        """The database goes away while a leader flushes for the other one."""
        self._switch_over(force=True)
        self._world.after(self._chance.uniform(0.001, 0.03), self.database_crash)

    def _switch_over(self, *, force: bool) -> None:
        body = {"force": force}
        for name in "ab":
            self._world.spawn(ask(self._world, name, "POST", "/api/v1/cluster/switchover", body))

    def pause(self) -> None:
        self._wish("paused")

    def halt(self) -> None:
        self._wish("halted")

    def _wish(self, key: str) -> None:
        """By SQL, as it must be possible without a leader."""
        control = self._world.database.control
        control[key] = {"reason": "a fault", "by": "operator"}
        self._until(self._chance.uniform(0.5, 5.0), lambda: control.pop(key, None))

    # ---- the gateway

    def gateway_restart(self) -> None:
        gateway, chance = self._world.gateway, self._chance
        if not gateway.up or gateway.losing:
            return
        gateway.losing = True
        down, loading, rollback = (
            chance.uniform(0.1, 2.0),
            chance.choice((0.0, chance.uniform(0.0, 1.5))),
            chance.choice((0, 0, 3, 40)),
        )

        def restart() -> None:
            if self._over:
                gateway.losing = False
                return
            gateway.crash(forgets_inside=chance.random() < 0.5)
            self._until(down, lambda: gateway.come_back(0.0 if self._over else loading, rollback))

        self._world.after(0.03, restart)

    def gateway_mute(self) -> None:
        self._world.gateway.mute = True
        self._until(self._chance.uniform(0.2, 6.0), lambda: setattr(self._world.gateway, "mute", False))

    def link_down(self) -> None:
        gateway = self._world.gateway
        if gateway.link_up:
            gateway.lose_link()
            self._until(self._chance.uniform(0.2, 4.0), gateway.restore_link)

    def relay_drops(self) -> None:
        for client_id in list(self._world.gateway.sessions):
            self._world.gateway.drop(client_id)

    def unanswered(self) -> None:
        self._for_a_while("unanswered", self._chance.choice((0.1, 0.5)))

    def hold_inside(self) -> None:
        self._for_a_while("hold_inside", 0.5)

    def drop_acks(self) -> None:
        self._for_a_while("drop_acks", 0.5)

    def _for_a_while(self, name: str, probability: float, seconds: float | None = None) -> None:
        fate = self._world.fate
        before = getattr(fate, name)
        setattr(fate, name, probability)
        self._until(
            seconds or self._chance.uniform(0.5, 4.0), lambda: setattr(fate, name, 0.0 if self._over else before)
        )


UNSEATING = (
    "kill", "host_gone", "stop", "freeze", "hang", "revoke", "cut_etcd", "isolate", "relay_drops", "gateway_restart",
    "ended_with_an_order_inside", "session_ends_under_a_commit", "frozen_with_a_commit",
)  # fmt: skip
"""What mostly ends a term or a session."""

FAULTS: dict[str, Callable[[Faults], None]] = {
    one.__name__: one
    for one in (
        Faults.kill, Faults.host_gone, Faults.stop, Faults.freeze, Faults.hang, Faults.failpoints, Faults.freeze_writes,
        Faults.ended_with_an_order_inside, Faults.ended_and_not_answered, Faults.answers_are_lost,
        Faults.session_ends_under_a_commit, Faults.frozen_with_a_commit,
        Faults.revoke, Faults.etcd_away, Faults.cut_etcd, Faults.cut_database, Faults.cut_gateway, Faults.isolate,
        Faults.database_crash, Faults.slow_commits, Faults.end_a_backend, Faults.database_goes_back,
        Faults.switchover, Faults.switchover_without_a_database,
        Faults.pause, Faults.halt, Faults.gateway_restart, Faults.gateway_mute,
        Faults.link_down, Faults.relay_drops, Faults.unanswered, Faults.hold_inside, Faults.drop_acks,
    )
}  # fmt: skip


def climate(chance: random.Random) -> Fate:
    """How slow and how unreliable everything is in this run."""

    def sometimes(probability: float, value: float) -> float:
        return value if chance.random() < probability else 0.0

    return Fate(
        etcd=Slowness(0.002, sometimes(0.3, 0.05), 0.5),
        database=Slowness(0.0008, sometimes(0.3, 0.03), 0.5),
        commit=Slowness(0.0006, sometimes(0.3, 0.05), chance.choice((0.02, 0.3))),
        gateway=Slowness(0.002, sometimes(0.3, 0.05), 0.5),
        lost_request=sometimes(0.15, 0.01),
        lost_reply=sometimes(0.25, 0.02),
        hold_inside=sometimes(0.2, 0.1),
        drop_acks=sometimes(0.15, 0.05),
        repeat=sometimes(0.5, 0.3),
        reject=0.03,
        die_at_point=sometimes(0.1, 0.001),
        freeze_before_write=sometimes(0.15, 0.02),
    )
