"""The catalogue's faults of what runs: processes, etcd, PostgreSQL, clocks, and what operators do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from engine.failpoint import POINTS
from tests.chaos.clocks import Suspend, WrongClock
from tests.chaos.entry import HOSTS_ONLY, LOOPBACK_ONLY, Entry, Kind, Leader, Need, between
from tests.chaos.faults import Away, Freeze, Kill, KillBoth, Restart, Together
from tests.chaos.in_etcd import RestoreEtcd, RevokeLease, WipeEtcd
from tests.chaos.in_postgres import CommitUnanswered, FullDisk, LockWait
from tests.chaos.operators import HaltAndOn, PausedDeath, Switchover, TwoOperators
from tests.chaos.partitions import FreezeParts, Isolate, KillTogether, etcd_away
from tests.chaos.points import Act, AtPoint, RenewerDies
from tests.chaos.rolling import RollingUpgrade

CHANGES, STAYS, MAY = Leader.CHANGES, Leader.STAYS, Leader.MAY
ON_AN_ORDERS_WAY = tuple(point for point in POINTS if point.startswith(("submit.", "commit.", "inbound.")))
OF_A_TAKEOVER = tuple(point for point in POINTS if point.startswith(("takeover.", "stepdown.")))
COMPILED = frozenset({Need.COMPILER})


def entries() -> Iterator[Entry]:
    """All of them."""
    yield from _process()
    yield from _points()
    yield from _etcd()
    yield from _postgres()
    yield from _clock()
    yield from _operator()


def _process() -> Iterator[Entry]:
    entry = partial(Entry, kind=Kind.PROCESS)
    yield entry(name="leader-killed", make=lambda *_: Kill("leader"), lasts=0.1, leader=CHANGES)
    yield entry(name="standby-killed", make=lambda *_: Kill("standby"), lasts=0.1, leader=STAYS)
    yield entry(name="both-killed", make=lambda *_: KillBoth(), lasts=0.1, leader=CHANGES)
    long, short = (lambda rng, _: Freeze(between(rng, 3.0, 6.0))), (lambda rng, _: Freeze(between(rng, 0.2, 0.5)))
    yield entry(name="leader-frozen-long", make=long, lasts=5.0, leader=CHANGES)
    yield entry(name="leader-frozen-short", make=short, lasts=0.5, leader=MAY)
    yield entry(
        name="standby-frozen", make=lambda rng, _: FreezeParts(("standby",), between(rng, 1.0, 5.0)), lasts=3.0, leader=STAYS
    )  # fmt: skip
    yield entry(
        name="leader-and-its-supervisor-killed", lasts=4.5, leader=CHANGES,
        make=lambda rng, _: KillTogether(("release", "leader"), between(rng, 3.0, 5.0)),
    )  # fmt: skip
    yield entry(
        name="leader-and-postgres-killed", lasts=4.0, leader=CHANGES,
        make=lambda *_: Together(Kill("leader"), Restart("postgres")),
    )  # fmt: skip
    yield entry(
        name="relay-killed", make=lambda *_: Restart("relay"), lasts=2.0, leader=MAY, needs=frozenset({Need.HAPROXY})
    )
    yield entry(name="renewing-thread-dies", make=lambda *_: RenewerDies(), lasts=9.0, leader=CHANGES, alone=True)


def _points() -> Iterator[Entry]:
    """Death and standstill at each point of an order's way and of a takeover, of the event loop or of the whole process."""
    for point in (*ON_AN_ORDERS_WAY, *OF_A_TAKEOVER):
        passages = (5, 60) if point in ON_AN_ORDERS_WAY else (1, 1)
        for act in Act:
            yield Entry(
                name=f"{ACTS[act]}-at-{point.replace('.', '-').replace('_', '-')}", kind=Kind.PROCESS, alone=True,
                lasts=8.0, leader=CHANGES, make=partial(_at_point, point=point, act=act, passages=passages),
            )  # fmt: skip


ACTS = {Act.KILL: "death", Act.STOP: "standstill", Act.HANG: "hang"}


def _at_point(rng, _form, *, point: str, act: Act, passages: tuple[int, int]) -> AtPoint:  # type: ignore[no-untyped-def]
    return AtPoint(point, act, rng.randint(*passages), between(rng, 2.2, 4.0))


def _etcd() -> Iterator[Entry]:
    entry = partial(Entry, kind=Kind.ETCD)
    yield entry(name="etcd-leader-killed", make=lambda *_: Restart("etcd-leader"), lasts=4.0, leader=STAYS)
    yield entry(
        name="etcd-leader-frozen", lasts=4.0, leader=STAYS,
        make=lambda rng, _: FreezeParts(("etcd-leader",), between(rng, 2.0, 5.0)),
    )  # fmt: skip
    yield entry(
        name="both-leaders-killed", lasts=4.5, leader=CHANGES,
        make=lambda *_: KillTogether(("release", "etcd-leader", "leader"), 4.5),
    )  # fmt: skip
    yield entry(
        name="used-member-frozen", lasts=4.0, leader=STAYS,
        make=lambda rng, _: FreezeParts(("used-member",), between(rng, 2.0, 5.0)),
    )  # fmt: skip
    yield entry(
        name="etcd-quorum-lost", lasts=5.0, leader=MAY,
        make=lambda rng, _: KillTogether(("etcd-leader", "etcd-follower"), between(rng, 3.0, 6.0)),
    )  # fmt: skip
    yield entry(name="etcd-away", make=lambda rng, _: etcd_away(between(rng, 3.0, 8.0)), lasts=6.0, leader=STAYS)
    yield entry(
        name="used-member-isolated", forms=HOSTS_ONLY, needs=frozenset({Need.NAMESPACES}), lasts=4.5, leader=STAYS,
        make=lambda rng, _: Isolate(between(rng, 3.5, 5.0)),
    )  # fmt: skip
    yield entry(name="lease-revoked", make=lambda *_: RevokeLease(), lasts=0.2, leader=CHANGES)
    yield entry(name="etcd-wiped", make=lambda *_: WipeEtcd(), lasts=2.0, leader=CHANGES, alone=True)
    yield entry(
        name="etcd-restored", make=lambda rng, _: RestoreEtcd(between(rng, 1.0, 4.0)), lasts=5.0, leader=MAY, alone=True
    )


def _postgres() -> Iterator[Entry]:
    entry = partial(Entry, kind=Kind.POSTGRES)
    yield entry(name="postgres-killed", make=lambda *_: Restart("postgres"), lasts=2.0, leader=MAY)
    away = lambda rng, _: Away("postgres", between(rng, 1.5, 4.0))  # noqa: E731
    yield entry(name="postgres-away", make=away, lasts=3.0, leader=MAY)
    frozen = lambda rng, _: FreezeParts(("postgres",), between(rng, 0.5, 3.0))  # noqa: E731
    yield entry(name="postgres-frozen", make=frozen, lasts=2.5, leader=MAY)
    yield entry(
        name="connection-cut-during-commit", make=lambda *_: CommitUnanswered(), lasts=0.5, leader=MAY,
        forms=LOOPBACK_ONLY, needs=frozenset({Need.TOXIPROXY}), alone=True,
    )  # fmt: skip
    yield entry(name="postgres-lock-wait", make=lambda rng, _: LockWait(between(rng, 0.3, 3.0)), lasts=2.0, leader=MAY)
    full = lambda rng, _: FullDisk(between(rng, 1.0, 3.0))  # noqa: E731
    yield entry(name="postgres-disk-full", make=full, lasts=2.0, leader=MAY, needs=COMPILED)


def _clock() -> Iterator[Entry]:
    entry = partial(Entry, kind=Kind.CLOCK, alone=True)
    for who, leading in (("leader", True), ("standby", False)):
        leader = CHANGES if leading else STAYS
        step = lambda rng, _, leading=leading: WrongClock(  # noqa: E731
            rng.choice((-1, 1)) * between(rng, 2.0, 30.0), between(rng, 2.0, 4.0), leading
        )
        skew = lambda rng, _, leading=leading: WrongClock(  # noqa: E731
            0.0, between(rng, 3.0, 4.0), leading, rng.choice((0.4, 1.6))
        )
        yield entry(name=f"{who}s-clock-steps", make=step, lasts=8.0, leader=leader, needs=COMPILED)
        yield entry(name=f"{who}s-clock-skewed", make=skew, lasts=8.0, leader=leader, needs=COMPILED)
    yield Entry(
        name="everything-suspended", kind=Kind.CLOCK, make=lambda rng, _: Suspend(between(rng, 1.0, 5.0)), lasts=3.0,
        leader=MAY, alone=True,
    )  # fmt: skip


def _operator() -> Iterator[Entry]:
    entry = partial(Entry, kind=Kind.OPERATOR)
    over = lambda rng, _: Switchover(rng.randint(1, 3))  # noqa: E731
    yield entry(name="switchovers", make=over, lasts=3.0, leader=CHANGES, alone=True)
    yield entry(name="two-operators", make=lambda *_: TwoOperators(), lasts=1.5, leader=CHANGES, alone=True)
    yield entry(name="leader-killed-in-a-pause", make=lambda *_: PausedDeath(), lasts=4.0, leader=CHANGES, alone=True)
    yield entry(name="halted", make=lambda rng, _: HaltAndOn(between(rng, 0.5, 3.0)), lasts=2.0, leader=STAYS)
    yield entry(
        name="rolling-upgrade", make=lambda *_: RollingUpgrade(), lasts=40.0, leader=CHANGES, alone=True,
        needs=frozenset({Need.HISTORY}),
    )  # fmt: skip
