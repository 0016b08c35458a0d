"""What the catalogue says of a fault. The faults themselves are listed in `listed_parts.py` and `listed_ways.py`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos import namespaces, rolling
from tests.chaos.faults import Fault
from tests.chaos.parts import NO_HAPROXY, NO_TOXIPROXY, haproxy, toxiproxy
from tests.chaos.preload import NO_COMPILER, compiler


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
    NFTABLES = "nftables"
    COMPILER = "compiler"
    HISTORY = "history"


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


def between(rng: random.Random, least: float, most: float) -> float:
    """A number of seconds, to one place."""
    return round(rng.uniform(least, most), 1)


def why_not(need: Need) -> str | None:
    """Why this machine cannot, in a sentence with the command that mends it; None if it can."""
    match need:
        case Need.HAPROXY:
            return None if haproxy() else NO_HAPROXY
        case Need.TOXIPROXY:
            return None if toxiproxy() else NO_TOXIPROXY
        case Need.NAMESPACES:
            return namespaces.why_not()
        case Need.NFTABLES:
            return None if namespaces.nft() else namespaces.NO_NFT
        case Need.COMPILER:
            return None if compiler() else NO_COMPILER
        case Need.HISTORY:
            return rolling.why_not()
