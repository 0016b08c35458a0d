"""The catalogue's faults of the ways between parts, and those of the gateway."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from tests.chaos.at_gateway import AtGateway, Correction
from tests.chaos.entry import HOSTS_ONLY, LOOPBACK_ONLY, Entry, Form, Kind, Leader, Need, between
from tests.chaos.faults import CloseSessions, DropAcks, Fault, Kill, Restart
from tests.chaos.links import BOTH, Way
from tests.chaos.on_hosts import EACH_WAY, BadWay, DeadPeer, Does, Going, To
from tests.chaos.on_links import BadLinks, Swizzle
from tests.chaos.partitions import CutHosts, CutLinks

CHANGES, STAYS, MAY = Leader.CHANGES, Leader.STAYS, Leader.MAY
HOSTS_NEED = frozenset({Need.NAMESPACES, Need.HAPROXY})


def entries() -> Iterator[Entry]:
    """All of them."""
    yield from _links()
    yield from _hosts()
    yield from _gateway()
    yield from _gateway_at_a_takeover()


_LINKS = {
    "postgres": ("{leader}-postgres",), "gateway": ("{leader}-gateway",), "etcd": ("{leader}-e",),
    "peer": ("peer-{leader}",), "standby": ("peer-{leader}", "{standby}-"),
}  # fmt: skip


def _links() -> Iterator[Entry]:
    entry = partial(
        Entry, kind=Kind.NETWORK, forms=LOOPBACK_ONLY, needs=frozenset({Need.TOXIPROXY, Need.HAPROXY}), leader=MAY
    )
    for way in Way:
        make = lambda rng, _, way=way: CutLinks(("peer-{leader}",), between(rng, 2.0, 4.0), (way,))  # noqa: E731
        yield entry(name=f"peers-link-cut-{way.name.lower()}", lasts=2.5, leader=STAYS, make=make)
    cut = lambda rng, _: CutLinks(("peer-{leader}", "{standby}-"), between(rng, 2.0, 4.0))  # noqa: E731
    yield entry(name="standby-cut-off", lasts=2.5, leader=STAYS, make=cut)
    for how, lasts in (("black", 2.5), ("refuse", 2.0), ("reset", 0.5), ("slow", 3.0), ("slice", 3.0)):
        for to, names in _LINKS.items():
            if how != "slice" or to in ("etcd", "peer"):  # what answers in more than a piece
                yield entry(
                    name=f"link-to-{to}-{how}", lasts=lasts,
                    leader=STAYS if to in ("peer", "standby") else MAY, make=partial(_bad_links, how=how, names=names, lasts=lasts),
                )  # fmt: skip
    yield entry(name="links-swizzled", make=lambda rng, _: Swizzle.of(rng, rng.randint(3, 8)), lasts=4.0)


def _bad_links(rng: random.Random, _form: Form, *, how: str, names: tuple[str, ...], lasts: float) -> Fault:
    ways = rng.choice((BOTH, (Way.THERE,), (Way.BACK,))) if how == "black" else BOTH
    return BadLinks(how, names, between(rng, lasts * 0.6, lasts * 1.4), ways, rng.randint(100, 600))


def _hosts() -> Iterator[Entry]:
    entry = partial(Entry, kind=Kind.NETWORK, forms=HOSTS_ONLY, needs=HOSTS_NEED | {Need.NFTABLES}, leader=MAY)
    yield Entry(
        name="leaders-host-cut-off", kind=Kind.NETWORK, forms=HOSTS_ONLY, needs=HOSTS_NEED, lasts=5.0, leader=CHANGES,
        make=lambda rng, _: CutHosts(("leader",), between(rng, 4.0, 7.0)),
    )  # fmt: skip
    yield Entry(
        name="standbys-host-cut-off", kind=Kind.NETWORK, forms=HOSTS_ONLY, needs=HOSTS_NEED, lasts=4.0, leader=STAYS,
        make=lambda rng, _: CutHosts(("standby",), between(rng, 2.0, 5.0)),
    )  # fmt: skip
    for to in To:
        part = "standby" if to is To.PEER else "leader"  # it is the standby that dials the other replica
        for does in Does:
            yield entry(
                name=f"host-to-{to}-{does.name.lower().replace('_', '-')}", lasts=3.0,
                leader=STAYS if to is To.PEER else MAY, make=partial(_bad_way, part=part, to=to, does=does),
            )  # fmt: skip
    yield entry(name="leaders-host-dies-half-open", make=lambda *_: DeadPeer(), lasts=2.0, leader=CHANGES)


def _bad_way(rng: random.Random, _form: Form, *, part: str, to: To, does: Does) -> Fault:
    going = rng.choice((EACH_WAY, (Going.OUT,), (Going.IN,))) if does is Does.LOST else EACH_WAY
    return BadWay(part, to, between(rng, 2.0, 4.0), does, going if does is not Does.RESET else (Going.OUT,))


def _gateway() -> Iterator[Entry]:
    entry = partial(Entry, kind=Kind.BROKER, leader=STAYS)
    yield entry(name="gateway-closes-sessions", make=lambda *_: CloseSessions(), lasts=0.1)
    yield entry(name="gateway-killed", make=lambda *_: Restart("gateway"), lasts=3.0)
    yield entry(name="orders-taken-in-silence", make=lambda rng, _: DropAcks(rng.randint(1, 8)), lasts=1.0)
    yield entry(name="execution-corrected", make=lambda *_: Correction(), lasts=0.1)
    for name, fault in _FAULTS.items():
        yield entry(name=f"gateway-{name}", lasts=2.5, leader=MAY if name in _MAY_MOVE else STAYS, make=fault)


_MAY_MOVE = {"freezes", "mute", "logged-out", "restarts"}


def _at(name: str, seconds: tuple[float, float], **fixed: object):  # type: ignore[no-untyped-def]
    """The fault for a random time; a parameter that is a pair of numbers is drawn between them, one of a list among it."""

    def make(rng: random.Random, _form: Form) -> Fault:
        drawn = {key: _drawn(rng, value) for key, value in fixed.items()}
        return AtGateway(name, between(rng, *seconds), drawn)

    return make


def _drawn(rng: random.Random, value: object) -> object:
    if isinstance(value, tuple):
        return rng.randint(*value)
    return rng.choice(value) if isinstance(value, list) else value


_FAULTS = {
    "link-down": _at("link_down", (1.0, 4.0), resubmit=[True, True, False], data_lost=[True, False], notice_ms=[0, 0, 800]),
    "mute": _at("mute", (1.0, 3.0)),
    "freezes": _at("freeze", (1.0, 3.0)),
    "late": _at("delay", (1.0, 3.0), ms=(50, 800)),
    "restarts": _at("restart", (1.0, 2.0), down_ms=(200, 2000), rollback_ids=[0, 0, 5], lose_ms=[0, 0, 50]),
    "logged-out": _at("logout", (1.0, 3.0)),
    "farm-down": _at("farm_down", (0.5, 1.0)),
    "sessions-torn": _at("close_sessions", (0.2, 0.3), torn=True),
    "pacing-errors": _at("pacing", (1.0, 2.0), limit=(8, 15), over="error"),
    "pacing-late": _at("pacing", (1.0, 3.0), limit=(8, 15), over="delay"),
    "pacing-drops": _at("pacing", (1.0, 2.0), limit=(12, 18), over="drop"),
    "loses-orders": _at("lose_orders", (4.0, 4.0), next=(1, 3)),
    "holds-orders-inside": _at("hold_inside", (4.0, 4.0), next=(1, 4), ms=(100, 3000)),
    "rejects": _at("reject", (4.0, 4.0), next=(1, 3), code=201),
    "inactive": _at("inactive", (4.0, 4.0), next=(1, 2)),
    "warns": _at("warn", (4.0, 4.0), next=(1, 4)),
    "makes-a-twin": _at("twin", (4.0, 4.0), next=1),
    "cancels-slowly": _at("pending_cancel", (3.0, 4.0), ms=(100, 1500), fill=[True, False]),
    "calls-back-twice": _at("duplicate_callbacks", (2.0, 3.0)),
    "calls-back-out-of-order": _at("reorder_callbacks", (2.0, 3.0)),
    "skips-statuses": _at("skip_statuses", (2.0, 3.0)),
    "midnight": _at("midnight", (0.2, 0.3)),
}  # fmt: skip


def _gateway_at_a_takeover() -> Iterator[Entry]:
    """What only somebody feels who asks for everything: the leader is killed while the fault is on."""
    requests = ["executions", "open_orders", "completed", "positions"]
    for name, fault, more in (
        ("no-end", "no_end", {"request": requests}),
        ("a-zone-nobody-knows", "unknown_zone", {}), ("late-answers", "delay", {"ms": (100, 1500)}),
        ("half-open", "half_open", {}), ("mute", "mute", {}),
    ):  # fmt: skip
        yield Entry(
            name=f"takeover-meets-{name}", kind=Kind.BROKER, leader=CHANGES, lasts=4.0, alone=True,
            make=partial(_at_a_takeover, fault=fault, more=more),
        )  # fmt: skip


def _at_a_takeover(rng: random.Random, _form: Form, *, fault: str, more: dict[str, object]) -> Fault:
    drawn = {key: _drawn(rng, value) for key, value in more.items()}
    return AtGateway(fault, between(rng, 2.5, 4.0), drawn, meanwhile=Kill("leader"))
