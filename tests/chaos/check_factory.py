"""A run of a pair that did everything right, for the tests of the checks to spoil."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ha.demo.findings import InDoubt
from ha.demo.history import fold
from ha.demo.scene import Glimpse
from ha.demo.silence import Kill, Silence
from tests.chaos.check import (
    Bite,
    Examined,
    Facts,
    Probe,
    Row,
    examine,
)

START = datetime(2026, 1, 2, 10, 0, 0, tzinfo=UTC)


CLIENT = 17


def at(ms: float) -> datetime:
    return START + timedelta(milliseconds=ms)


def id_of(number: int) -> str:
    return "ORDER" + "ABCDEFGHIJ"[number % 10] + "AAAAAAAAA" + "ABCDEFGHIJ"[number // 10]


def glimpse(state: str, **changes: Any) -> Glimpse:
    healthy = Glimpse(
        "leader" if state == "LEADING" else "standby", state, 2, state == "LEADING", (), (), True, 40, "d1"
    )
    return replace(healthy, **changes)


@dataclass
class World:
    """A pair with one change of leader, which did everything right; each test spoils one thing."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    log: list[Row] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    bites: list[Bite] = field(default_factory=list)
    in_doubt: list[InDoubt] = field(default_factory=list)
    leaders: tuple[str, ...] = ("b",)
    before: list[Row] = field(default_factory=list)
    claims: dict[int, int] = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    standing: dict[str, Glimpse | None] = field(default_factory=dict)

    def wrote(self, kind: str, ms: float, epoch: int, order_id: str | None = None, /, **payload: Any) -> None:
        self.log.append(Row(len(self.log) + 1, epoch, kind, order_id, payload, at(ms), at(ms)))

    def reached(self, kind: str, ms: float, **fields: Any) -> dict[str, Any]:
        entry = {"seq": len(self.journal) + 1, "at": at(ms).isoformat(), "kind": kind, "client_id": CLIENT}
        self.journal.append(entry | fields)
        return self.journal[-1]

    def order(self, number: int, ms: float, *, epoch: int, session: int, wire: int) -> None:
        """Asked for, licensed for the ledger's session (as numbered at the broker, less ten), and sent on it."""
        self.entries.append(
            {"op": "place", "kind": "invoke", "client_order_id": f"k{number}", "at": at(ms).isoformat()}
        )
        self.wrote("order_accepted", ms + 2, epoch, id_of(number), session=session - 10, broker_order_id=number + 1)
        self.reached(
            "order", ms + 3, session=wire, order_id=number + 1, perm_id=900 + number, symbol="AAPL", side="BUY",
            quantity="1", order_ref=f"pa.TAGA.{epoch}.{id_of(number)}",
        )  # fmt: skip

    def probe(self, replica: str, ms: float, status: int | None, took: float = 2.0) -> None:
        self.probes.append(Probe(replica, at(ms), at(ms + took), status))

    def facts(self) -> Facts:
        return Facts(
            history=fold(self.entries), journal=self.journal, log=self.log, probes=self.probes, bites=self.bites,
            client_id=CLIENT, in_doubt=self.in_doubt, leaders=self.leaders, before=self.before, silences=self.silences,
            standing=self.standing, claims=self.claims,
        )  # fmt: skip

    def examined(self) -> Examined:
        return examine(self.facts())


@pytest.fixture
def world() -> World:
    """Twenty orders under epoch 1 on the broker's session 11, the leader a killed, twenty under epoch 2 on session 12."""
    world = World()
    for number in range(20):
        world.order(number, number * 50, epoch=1, session=11, wire=11)
    for number in range(20, 40):
        world.order(number, 300 + number * 50, epoch=2, session=12, wire=12)
    world.standing = {"a": glimpse("STANDBY"), "b": glimpse("LEADING")}
    world.before = world.log[:20]
    world.silences = [Silence(Kill("a", "http://a", at(980)), 320.0, 310.0)]
    for ms in range(0, 1000, 100):
        world.probe("a", ms, 200)
        world.probe("b", ms, 503)
    for ms in range(1000, 2500, 100):
        world.probe("a", ms, None)
        world.probe("b", ms, 200 if ms >= 1200 else 503)
    world.bites.append(Bite("kill -9 leader", at(980), "a has ended", "a"))
    return world


def the_problem(world: World) -> str:
    """The only one that is found."""
    [problem] = world.examined().problems
    return problem
