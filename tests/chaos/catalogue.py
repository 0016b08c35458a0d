"""Every fault that a scenario can ask for, by name: what it takes, in which form of the cluster, with random parameters.

A random scheduler draws from here, and so does the test that strikes each one once. `make` draws all that is random from
the generator it is given, so that a seed gives the same faults again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos import namespaces
from tests.chaos.faults import (
    Away,
    CloseSessions,
    DropAcks,
    Fault,
    Freeze,
    Kill,
    KillBoth,
    Restart,
    Together,
)
from tests.chaos.links import Way
from tests.chaos.partitions import CutHosts, CutLinks, FreezeParts, Isolate, KillTogether, etcd_away
from tests.chaos.parts import NO_HAPROXY, NO_TOXIPROXY, haproxy, toxiproxy


class Kind(StrEnum):
    """What is broken."""

    PROCESS = "process"
    ETCD = "etcd"
    POSTGRES = "postgres"
    NETWORK = "network"
    BROKER = "broker"
    CLOCK = "clock"
    OPERATOR = "operator"


class Form(StrEnum):
    """A form of the cluster: all on one host with links, or hosts with cables."""

    LOOPBACK = "loopback"
    HOSTS = "hosts"


class Need(StrEnum):
    """What the machine must have."""

    HAPROXY = "haproxy"
    TOXIPROXY = "toxiproxy"
    NAMESPACES = "namespaces"


class Leader(StrEnum):
    """What becomes of the leader by this fault alone, struck at a whole pair."""

    STAYS = "stays"
    CHANGES = "changes"  # a new epoch at least, of the other replica or of the same one
    MAY = "may"


BOTH_FORMS = frozenset(Form)
LOOPBACK_ONLY = frozenset({Form.LOOPBACK})
HOSTS_ONLY = frozenset({Form.HOSTS})
Make = Callable[[random.Random, Form], Fault]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One fault. `strike` of what `make` returns heals what it broke and leaves a cluster that heals by itself."""

    name: str
    kind: Kind
    make: Make
    lasts: float
    """Roughly, seconds from the strike until it is over; the pair may need some more to be whole."""
    leader: Leader
    forms: frozenset[Form] = BOTH_FORMS
    needs: frozenset[Need] = frozenset()
    alone: bool = False
    """Asks for a whole pair while it strikes (it arms a replica, or looks at what the pair makes of it): another fault
    beside it may keep it from biting, which then does not count."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that both replicas must have been started with."""


def _between(rng: random.Random, least: float, most: float) -> float:
    return round(rng.uniform(least, most), 1)


def _entries() -> Iterator[Entry]:
    yield from _process()
    yield from _etcd()
    yield from _postgres()
    yield from _network()
    yield from _broker()


def _process() -> Iterator[Entry]:
    kind, changes, stays = Kind.PROCESS, Leader.CHANGES, Leader.STAYS
    yield Entry(name="leader-killed", kind=kind, make=lambda *_: Kill("leader"), lasts=0.1, leader=changes)
    yield Entry(name="standby-killed", kind=kind, make=lambda *_: Kill("standby"), lasts=0.1, leader=stays)
    yield Entry(name="both-killed", kind=kind, make=lambda *_: KillBoth(), lasts=0.1, leader=changes)
    yield Entry(
        name="leader-frozen-long", kind=kind, make=lambda rng, _: Freeze(_between(rng, 3.0, 6.0)), lasts=5.0, leader=changes
    )  # fmt: skip
    yield Entry(
        name="leader-and-its-supervisor-killed", kind=kind, lasts=4.5, leader=changes,
        make=lambda rng, _: KillTogether(("release", "leader"), _between(rng, 3.0, 5.0)),
    )  # fmt: skip
    yield Entry(
        name="leader-and-postgres-killed", kind=kind, lasts=4.0, leader=changes,
        make=lambda *_: Together(Kill("leader"), Restart("postgres")),
    )  # fmt: skip


def _etcd() -> Iterator[Entry]:
    kind, stays = Kind.ETCD, Leader.STAYS
    yield Entry(name="etcd-leader-killed", kind=kind, make=lambda *_: Restart("etcd-leader"), lasts=4.0, leader=stays)
    yield Entry(
        name="both-leaders-killed", kind=kind, lasts=4.5, leader=Leader.CHANGES,
        make=lambda *_: KillTogether(("release", "etcd-leader", "leader"), 4.5),
    )  # fmt: skip
    yield Entry(
        name="used-member-frozen", kind=kind, lasts=4.0, leader=stays,
        make=lambda rng, _: FreezeParts(("used-member",), _between(rng, 2.0, 5.0)),
    )  # fmt: skip
    yield Entry(
        name="etcd-away", kind=kind, make=lambda rng, _: etcd_away(_between(rng, 3.0, 8.0)), lasts=6.0, leader=stays
    )
    yield Entry(
        name="used-member-isolated", kind=kind, forms=HOSTS_ONLY, needs=frozenset({Need.NAMESPACES}), lasts=4.5,
        leader=stays, make=lambda rng, _: Isolate(_between(rng, 3.5, 5.0)),
    )  # fmt: skip


def _postgres() -> Iterator[Entry]:
    kind = Kind.POSTGRES
    yield Entry(name="postgres-killed", kind=kind, make=lambda *_: Restart("postgres"), lasts=2.0, leader=Leader.MAY)
    yield Entry(
        name="postgres-away", kind=kind, lasts=3.0, leader=Leader.MAY,
        make=lambda rng, _: Away("postgres", _between(rng, 1.5, 4.0)),
    )  # fmt: skip
    yield Entry(
        name="postgres-frozen", kind=kind, lasts=2.5, leader=Leader.MAY,
        make=lambda rng, _: FreezeParts(("postgres",), _between(rng, 1.5, 3.0)),
    )  # fmt: skip


def _network() -> Iterator[Entry]:
    kind, links = Kind.NETWORK, frozenset({Need.TOXIPROXY})
    for way in Way:
        yield Entry(
            name=f"peers-link-cut-{way.name.lower()}", kind=kind, forms=LOOPBACK_ONLY, needs=links, lasts=2.5,
            leader=Leader.STAYS,
            make=lambda rng, _, way=way: CutLinks(("peer-{leader}",), _between(rng, 2.0, 4.0), (way,)),  # type: ignore[misc]
        )  # fmt: skip
    yield Entry(
        name="standby-cut-off", kind=kind, forms=LOOPBACK_ONLY, needs=links, lasts=2.5, leader=Leader.STAYS,
        make=lambda rng, _: CutLinks(("peer-{leader}", "{standby}-"), _between(rng, 2.0, 4.0)),
    )  # fmt: skip
    yield Entry(
        name="leaders-host-cut-off", kind=kind, forms=HOSTS_ONLY, needs=frozenset({Need.NAMESPACES, Need.HAPROXY}),
        lasts=5.0, leader=Leader.CHANGES, make=lambda rng, _: CutHosts(("leader",), _between(rng, 4.0, 7.0)),
    )  # fmt: skip


def _broker() -> Iterator[Entry]:
    kind, stays = Kind.BROKER, Leader.STAYS
    yield Entry(name="gateway-closes-sessions", kind=kind, make=lambda *_: CloseSessions(), lasts=0.1, leader=stays)
    yield Entry(name="gateway-killed", kind=kind, make=lambda *_: Restart("gateway"), lasts=3.0, leader=stays)
    yield Entry(
        name="orders-taken-in-silence", kind=kind, make=lambda rng, _: DropAcks(rng.randint(1, 8)), lasts=1.0, leader=stays
    )  # fmt: skip


def _by_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        assert entry.name not in found, entry.name
        found[entry.name] = entry
    return found


CATALOGUE: Mapping[str, Entry] = _by_name(_entries())


def why_not(need: Need) -> str | None:
    """Why this machine cannot, in a sentence with the command that mends it; None if it can."""
    match need:
        case Need.HAPROXY:
            return None if haproxy() else NO_HAPROXY
        case Need.TOXIPROXY:
            return None if toxiproxy() else NO_TOXIPROXY
        case Need.NAMESPACES:
            return namespaces.why_not()


def possible(form: Form, kinds: Iterable[Kind] = tuple(Kind)) -> list[Entry]:
    """The entries of these kinds that this form of the cluster and this machine can strike, in order."""
    missing = {need for need in Need if why_not(need) is not None}
    return [
        entry
        for entry in CATALOGUE.values()
        if form in entry.forms and entry.kind in kinds and not entry.needs & missing
    ]
