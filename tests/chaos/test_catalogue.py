"""The catalogue's faults, each once, many of them one after the other on one pair under orders that flow: all is judged at
the end, each one has proven that it took effect, and there were orders to feel it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest

from tests.chaos.catalogue import CATALOGUE, Form, Need, why_not
from tests.chaos.check import Bite
from tests.chaos.clocks import WrongClock
from tests.chaos.cluster import CLIENT_ID, HEALS_WITHIN, Cluster
from tests.chaos.desk import attended
from tests.chaos.entry import Leader
from tests.chaos.faults import Fault
from tests.chaos.parts import lacking
from tests.chaos.points import AtPoint, RenewerDies
from tests.chaos.scenario import Outcome, Step, play
from tests.chaos.traffic import Load

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(400)]

RATE = 20.0
AT_MOST = 300.0  # seconds of orders in one play
REPEAT_FOR = 5.0  # clients that repeat for minutes would keep a pair on one machine from anything else
SEED = 4
IN_A_ROW = 6

GATEWAY = (
    "gateway-warns", "gateway-rejects", "gateway-calls-back-twice", "gateway-calls-back-out-of-order",
    "gateway-skips-statuses", "gateway-late", "gateway-pacing-errors", "gateway-pacing-late", "gateway-cancels-slowly",
    "gateway-holds-orders-inside", "gateway-makes-a-twin", "execution-corrected", "gateway-farm-down",
    "gateway-pacing-drops",
)  # fmt: skip
GATEWAY_GONE = (
    "gateway-loses-orders", "gateway-inactive", "gateway-midnight", "gateway-sessions-torn", "gateway-link-down", "gateway-mute",
    "gateway-restarts", "gateway-logged-out", "gateway-freezes",
)  # fmt: skip
TAKEOVERS = tuple(name for name in CATALOGUE if name.startswith("takeover-meets-"))
LINKS = (
    "link-to-gateway-black", "link-to-postgres-refuse", "link-to-gateway-reset", "link-to-postgres-slow",
    "link-to-peer-slice", "link-to-etcd-slow", "links-swizzled",
)  # fmt: skip
HOSTS = (
    "host-to-postgres-lost", "host-to-etcd-half-lost", "host-to-peer-reset", "host-to-gateway-lost",
    "leaders-host-dies-half-open",
)  # fmt: skip
ETCD = ("lease-revoked", "etcd-wiped", "etcd-restored", "etcd-quorum-lost", "etcd-leader-frozen")
POSTGRES = ("connection-cut-during-commit", "postgres-lock-wait", "postgres-disk-full", "postgres-frozen")
CLOCKS = ("leaders-clock-steps", "standbys-clock-skewed", "everything-suspended")
PEOPLE = ("switchovers", "two-operators", "leader-killed-in-a-pause", "halted")
PROCESSES = ("renewing-thread-dies", "relay-killed", "leader-frozen-short", "standby-frozen")
DEATHS = tuple(name for name in CATALOGUE if name.startswith("death-at-"))
STANDSTILLS = (
    "standstill-at-submit-before-write", "hang-at-commit-after-answer", "standstill-at-inbound-before-commit",
    "hang-at-takeover-claimed", "standstill-at-takeover-admitted", "hang-at-takeover-leading", "standstill-at-stepdown-gate-shut",
)  # fmt: skip
ON_ONE_HOST = {
    "gateway": GATEWAY, "gateway gone": GATEWAY_GONE, "takeovers": TAKEOVERS, "links": LINKS, "etcd": ETCD,
    "postgres": POSTGRES, "clocks": CLOCKS, "people": PEOPLE, "processes": PROCESSES,
    "deaths on an order's way": DEATHS[:6], "deaths in a takeover": DEATHS[6:], "standstills": STANDSTILLS,
}  # fmt: skip
SHORT = {"gateway", "processes"}
"""What `make test` has the time for; `make test-all` strikes all of them."""
ELSEWHERE = {  # struck by the scenarios that look closer
    "leader-killed", "standby-killed", "both-killed", "leader-frozen-long", "leader-and-its-supervisor-killed",
    "leader-and-postgres-killed", "both-leaders-killed", "used-member-frozen", "etcd-away", "used-member-isolated",
    "postgres-killed", "postgres-away", "peers-link-cut-there", "peers-link-cut-back", "standby-cut-off",
    "leaders-host-cut-off", "gateway-closes-sessions", "gateway-killed", "orders-taken-in-silence", "rolling-upgrade",
}  # fmt: skip
_OFTEN = {*HOSTS, *ELSEWHERE, *(name for names in ON_ONE_HOST.values() for name in names)}
THE_REST = [name for name in CATALOGUE if name not in _OFTEN]


def rows(form: Form) -> list[tuple[str, ...]]:
    """The rest of the faults, so many after each other as one play has the time for; each on one host if it can be."""
    names = [name for name in THE_REST if (Form.LOOPBACK in CATALOGUE[name].forms) == (form is Form.LOOPBACK)]
    return [tuple(names[at : at + IN_A_ROW]) for at in range(0, len(names), IN_A_ROW)]


PAIRS_BY_ITSELF = (AtPoint, RenewerDies, WrongClock)
"""Faults for which the standby is started again; they strike when the pair is whole after that."""


@dataclass(frozen=True, slots=True)
class OnAWholePair:
    """The fault, struck once the pair is whole again and orders reach the broker."""

    fault: Fault

    async def strike(self, on: Cluster) -> Bite:
        """See Fault."""
        await (on.led() if isinstance(self.fault, PAIRS_BY_ITSELF) else on.paired())
        seq = (await on.journal())[-1]["seq"]
        async with asyncio.timeout(HEALS_WITHIN):
            while not any(
                one["kind"] == "order" and one.get("client_id") == CLIENT_ID
                for one in (await on.broker("GET", f"/journal?after={seq}"))["entries"]
            ):
                await asyncio.sleep(0.1)
        return await self.fault.strike(on)


async def struck(on: Cluster, form: Form, names: tuple[str, ...], title: str) -> Outcome:
    """All of them in this order, while somebody at the desk looks at what is in doubt; everything must be fine."""
    for need in {need for name in names for need in CATALOGUE[name].needs}:
        if (reason := why_not(need)) is not None:
            if need is Need.HISTORY:  # a copy of the tree without its history is a whole one
                pytest.skip(reason)
            lacking(reason)
    faults = [CATALOGUE[name].make(random.Random(f"{SEED} {name}"), form) for name in names]
    async with attended(on):
        steps = [Step(0.5, OnAWholePair(fault)) for fault in faults]
        outcome = await play(
            on, title, steps, Load(rate=RATE, seconds=AT_MOST, repeat_for=REPEAT_FOR), SEED, flows_on=1.0
        )
    outcome.must_be_fine()
    assert len(outcome.bites) == len(names)
    changed = {CATALOGUE[name].leader for name in names}
    if Leader.CHANGES in changed:
        assert outcome.epoch_after > outcome.epoch_before
    elif changed == {Leader.STAYS}:
        assert outcome.epoch_after == outcome.epoch_before
    return outcome


@pytest.mark.guarantee(1)
@pytest.mark.guarantee(2)
@pytest.mark.guarantee(3)
@pytest.mark.guarantee(4)
@pytest.mark.guarantee(5)
@pytest.mark.guarantee(6)
@pytest.mark.guarantee(8)
@pytest.mark.parametrize(
    "which", [one if one in SHORT else pytest.param(one, marks=pytest.mark.slow) for one in ON_ONE_HOST]
)
async def test_faults_one_after_the_other_lose_double_and_invent_nothing(cluster: Cluster, which: str) -> None:
    await struck(cluster, Form.LOOPBACK, ON_ONE_HOST[which], which)


@pytest.mark.slow
@pytest.mark.guarantee(2)
async def test_ways_between_hosts_that_lose_or_reset_what_is_said_cost_no_order(hosts: Cluster) -> None:
    outcome = await struck(hosts, Form.HOSTS, HOSTS, "ways between hosts")
    [term, *_] = outcome.terms
    assert term["fence_ms"] > 0, "the session of the host that died stood, and the agent ended it"


@pytest.mark.slow  # two wheels are built; test_side_by_side.py has the two versions in `make test`
@pytest.mark.rule(22)
@pytest.mark.guarantee(7)
async def test_a_rolling_upgrade_of_two_wheels_under_load_costs_no_order(cluster: Cluster) -> None:
    outcome = await struck(cluster, Form.LOOPBACK, ("rolling-upgrade",), "rolling upgrade")
    assert outcome.verdict.answered == outcome.verdict.asked


@pytest.mark.slow
@pytest.mark.parametrize("names", rows(Form.LOOPBACK), ids=lambda names: f"{names[0]} and {len(names) - 1} more")
async def test_every_other_fault_on_one_host_is_survived(cluster: Cluster, names: tuple[str, ...]) -> None:
    await struck(cluster, Form.LOOPBACK, names, "the rest on one host")


@pytest.mark.slow
@pytest.mark.parametrize("names", rows(Form.HOSTS), ids=lambda names: f"{names[0]} and {len(names) - 1} more")
async def test_every_other_fault_between_hosts_is_survived(hosts: Cluster, names: tuple[str, ...]) -> None:
    await struck(hosts, Form.HOSTS, names, "the rest between hosts")


async def test_every_fault_of_the_catalogue_is_struck_by_some_test() -> None:
    listed = [*HOSTS, *ELSEWHERE, *THE_REST, *(name for names in ON_ONE_HOST.values() for name in names)]
    assert sorted(listed) == sorted(CATALOGUE)


async def test_the_same_seed_makes_the_same_fault() -> None:
    for entry in CATALOGUE.values():
        for form in entry.forms:
            assert entry.make(random.Random(7), form) == entry.make(random.Random(7), form), entry.name
