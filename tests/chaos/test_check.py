"""The checks against facts that are known to be good and known to be bad: what they must catch, they catch."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ha.demo.findings import InDoubt
from ha.demo.history import fold
from ha.demo.judge import Verdict
from ha.demo.scene import Glimpse
from ha.demo.silence import Kill, Silence
from tests.chaos.check import (
    CHECKS,
    LEAST_ASKED,
    OF_THE_VERDICT,
    Bite,
    Examined,
    Facts,
    Probe,
    Row,
    examine,
    leading_between,
    orders_between,
    refusals,
    sent_on_old_session,
    table,
)

ROOT = Path(__file__).parents[2]

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

    def examined(self) -> Examined:
        facts = Facts(
            history=fold(self.entries), journal=self.journal, log=self.log, probes=self.probes, bites=self.bites,
            client_id=CLIENT, in_doubt=self.in_doubt, leaders=self.leaders, before=self.before, silences=self.silences,
            standing=self.standing,
        )  # fmt: skip
        return examine(facts)


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


def test_a_pair_that_did_everything_right_has_no_problem(world: World) -> None:
    assert world.examined() == Examined([])


@pytest.mark.check("epoch_falls")
@pytest.mark.guarantee(1)
def test_an_event_written_under_an_older_epoch_is_found(world: World) -> None:
    world.wrote("commission", 5000, 1)
    assert the_problem(world) == "event 41 was written under epoch 1, after one under 2"


@pytest.mark.check("holes")
@pytest.mark.rule(21)
def test_a_hole_in_the_log_is_found(world: World) -> None:
    world.log = [replace(row, seq=row.seq + 1) if row.seq > 30 else row for row in world.log]
    assert the_problem(world) == "the log goes from event 30 to 32"


@pytest.mark.check("unlicensed")
@pytest.mark.rule(2)
def test_an_order_that_no_commit_licensed_is_found(world: World) -> None:
    world.log[5] = replace(world.log[5], payload={"session": None})
    assert "which no commit licensed" in the_problem(world)


@pytest.mark.check("unlicensed")
@pytest.mark.rule(2)
def test_an_order_under_another_order_id_than_its_licence_names_is_found(world: World) -> None:
    world.journal[-1]["order_id"] = 777
    assert "sent under order id 777" in the_problem(world)


@pytest.mark.check("stale_sends")
@pytest.mark.rule(2)
@pytest.mark.guarantee(2)
def test_an_order_licensed_by_the_old_leader_and_sent_by_the_new_one_is_found(world: World) -> None:
    world.journal[19]["session"] = 12
    problems = world.examined().problems
    assert any("its licence is for the broker's session 11, and it was sent on session 12" in one for one in problems)
    assert any("broker session 12 carries epochs 1 and 2" in one for one in problems)


@pytest.mark.check("stale_sends")
@pytest.mark.guarantee(2)
def test_an_order_sent_by_the_old_leader_after_the_new_one_began_is_found(world: World) -> None:
    world.journal[19], world.journal[20] = world.journal[20], world.journal[19]
    assert "was sent under epoch 1, after an order under 2" in the_problem(world)


@pytest.mark.check("stale_sends")
@pytest.mark.guarantee(2)
def test_sessions_that_come_in_another_order_at_the_broker_are_found(world: World) -> None:
    for entry in world.journal[20:]:
        entry["session"] = 9
    assert the_problem(world) == "session 2 of the ledger is older at the broker than session 1"


@pytest.mark.check("written_again")
@pytest.mark.rule(1)
def test_an_order_sent_again_under_its_order_id_is_found(world: World) -> None:
    world.reached("modify", 5000, session=12, order_id=3, order_ref=f"pa.TAGA.1.{id_of(2)}")
    assert "was sent again under its order id 3" in the_problem(world)


@pytest.mark.check("rejected")
def test_traffic_that_the_broker_refuses_is_found(world: World) -> None:
    world.reached("rejected", 5000, code=200, reason="No security definition")
    assert the_problem(world) == "the broker refused 1 orders: 200 No security definition"


@pytest.mark.check("expired_early")
@pytest.mark.rule(8)
def test_an_order_that_expires_before_its_age_is_found(world: World) -> None:
    world.wrote("order_accepted", 3000, 2, id_of(50), client_order_id="k50")
    world.wrote("order_expired", 3000 + 7900, 2, id_of(50))
    assert the_problem(world) == f"order {id_of(50)} expired at the age of 7.9 s, 8 s are allowed"


@pytest.mark.check("doubted_yet_taken")
@pytest.mark.rule(1)
def test_an_order_in_doubt_that_the_broker_took_is_found(world: World) -> None:
    world.in_doubt = [
        InDoubt(id_of(1), "k1", "AAPL", ("X",), "never taken"),
        InDoubt(id_of(2), "k2", "AAPL", ("Y",), "live"),
    ]
    assert the_problem(world) == f"order {id_of(2)} is in doubt, and live at the broker"


@pytest.mark.check("two_leaders")
@pytest.mark.rule(12)
def test_two_leaders_for_longer_than_a_second_are_found_and_measured(world: World) -> None:
    world.probes = [probe for probe in world.probes if probe.replica == "b"]
    for ms in range(0, 2400, 100):
        world.probe("a", ms, 200)
    assert the_problem(world) == "two replicas answered 200 on /leader for 1098 to 1102 ms"
    [overlap] = world.examined().overlaps
    assert overlap.began == at(1200)


@pytest.mark.rule(12)
def test_two_leaders_for_less_than_a_second_are_counted_and_are_no_problem(world: World) -> None:
    world.probes = [probe for probe in world.probes if probe.replica == "b"]
    for ms in range(0, 1500, 100):
        world.probe("a", ms, 200)
    examined = world.examined()
    assert examined.problems == []
    assert [overlap.certain_ms for overlap in examined.overlaps] == [198.0]


@pytest.mark.rule(12)
def test_one_answer_of_each_at_the_same_time_may_be_an_overlap_and_is_not_certain(world: World) -> None:
    world.probes = []
    world.probe("a", 0, 200, took=100)
    world.probe("b", 50, 200, took=100)
    [overlap] = world.examined().overlaps
    assert (overlap.certain_ms, overlap.most_ms) == (0.0, 50.0)


def test_leading_again_after_a_pause_is_no_overlap_with_the_leader_of_the_pause(world: World) -> None:
    world.probes = []
    for ms, a, b in ((0, 200, 503), (100, 503, 200), (200, None, 200), (300, 503, 503), (400, 200, 503)):
        world.probe("a", ms, a)
        world.probe("b", ms, b)
    assert world.examined().overlaps == []


@pytest.mark.check("not_one_leader")
@pytest.mark.parametrize("leaders", [(), ("a", "b")])
def test_any_number_of_leaders_but_one_after_healing_is_found(world: World, leaders: tuple[str, ...]) -> None:
    world.leaders = leaders
    assert the_problem(world).startswith(f"after healing {len(leaders)} replicas answered 200 on /leader")


@pytest.mark.check("quiet_strikes")
def test_a_fault_in_a_quiet_moment_does_not_count(world: World) -> None:
    world.bites[0] = replace(world.bites[0], at=at(30_000))
    assert the_problem(world) == "kill -9 leader: only 0 orders were asked for within a second of its strike"


def test_a_fault_counts_with_twenty_orders_within_a_second_of_it_and_not_with_nineteen(world: World) -> None:
    world.entries = world.entries[20 - LEAST_ASKED : 20]
    assert world.examined().problems == []
    world.entries.pop()
    assert "only 19 orders" in the_problem(world)


@pytest.mark.check("quiet_strikes")
def test_a_run_without_a_fault_proves_nothing(world: World) -> None:
    world.bites.clear()
    assert the_problem(world) == "no fault took effect"


@pytest.mark.check("not_in_the_log")
@pytest.mark.rule(20)
@pytest.mark.guarantee(3)
def test_an_answer_for_an_order_that_the_log_does_not_have_is_found(world: World) -> None:
    answer = {
        "op": "place",
        "kind": "ok",
        "client_order_id": "k7",
        "status": 201,
        "url": "http://a",
        "at": at(360).isoformat(),
    }
    world.entries.append(answer | {"id": id_of(7)})
    assert world.examined().problems == []
    world.entries.append(answer | {"id": "ANOTHERAAAAAAAAA"})
    assert the_problem(world) == "order ANOTHERAAAAAAAAA (k7) was answered 2xx, and no event of the log accepts it"


@pytest.mark.check("licensed_again")
@pytest.mark.rule(1)
@pytest.mark.rule(4)
@pytest.mark.guarantee(4)
def test_a_licence_that_another_term_takes_back_is_found(world: World) -> None:
    world.wrote("order_unlicensed", 2500, 2, id_of(30))
    assert world.examined().problems == []  # the one that gave it knows that nothing was written
    world.wrote("order_unlicensed", 2500, 2, id_of(3))
    assert f"order {id_of(3)} was licensed under epoch 1, and epoch 2 took the licence back" in the_problem(world)


@pytest.mark.check("ids_fall")
@pytest.mark.rule(4)
@pytest.mark.guarantee(4)
def test_an_order_id_that_falls_on_the_wire_is_found_but_not_one_that_the_gateway_kept_inside(world: World) -> None:
    one, two = world.journal[10], world.journal[11]
    world.journal[10], world.journal[11] = two | {"seq": 11, "symbol": "IBM"}, one | {"seq": 12}
    assert the_problem(world) == f"{one['order_ref']} was sent under order id 11, after 12"
    world.reached("fault", 600, fault="hold_inside", order_id=11)
    assert world.examined().problems == []


@pytest.mark.check("overtaken")
@pytest.mark.rule(9)
def test_an_order_that_overtakes_another_one_in_its_contract_is_found(world: World) -> None:
    log, other, world.before = world.log[10], world.log[11], []
    world.log[10], world.log[11] = replace(other, seq=11), replace(log, seq=12)  # accepted the other way round
    assert "which was accepted later" in the_problem(world)
    world.journal[11]["symbol"] = "IBM"
    assert world.examined().problems == []
    world.journal[11]["symbol"] = "AAPL"
    world.wrote("order_unlicensed", 2500, 1, id_of(10))
    world.log = [replace(row, epoch=1) for row in world.log]  # its licence was taken back, by the term that gave it
    assert not [problem for problem in world.examined().problems if "accepted later" in problem]


@pytest.mark.check("overtaken")
def test_an_order_that_waited_may_be_overtaken_only_where_the_database_refused_a_licence(world: World) -> None:
    """A full disk refused the licence of the older one and took that of the next."""
    waited = world.log[10]
    world.log[10] = replace(waited, payload={})
    world.wrote(
        "order_licensed", 960, 1, waited.order_id, session=1, broker_order_id=21
    )  # its first one would have been 11
    world.log = [replace(row, epoch=1) for row in world.log]
    late = next(entry for entry in world.journal if entry["order_id"] == 11)
    world.journal = [e for e in world.journal if e is not late and e["session"] == 11] + [late | {"order_id": 21}]
    world.journal = [entry | {"seq": place} for place, entry in enumerate(world.journal, start=1)]
    behind = "reached the broker behind"
    assert not [problem for problem in world.examined().problems if behind in problem]
    world.log = [
        replace(row, payload=row.payload | {"broker_order_id": row.payload["broker_order_id"] - 1})
        if row.payload.get("session") == 1 and row.payload["broker_order_id"] > 11 else row
        for row in world.log
    ]  # fmt: skip
    world.journal = [e | {"order_id": e["order_id"] - (e["order_id"] > 11)} for e in world.journal]
    assert [problem for problem in world.examined().problems if behind in problem], "here nobody was refused"


@pytest.mark.check("booked_twice")
@pytest.mark.rule(27)
@pytest.mark.guarantee(5)
def test_an_execution_that_the_log_has_twice_is_found_and_its_correction_is_none(world: World) -> None:
    made = {"account": "DU1", "root": "0001.7", "exec_id": "0001.7.01"}
    world.wrote("execution", 2500, 2, id_of(30), revision=1, **made)
    world.wrote("execution", 2500, 2, id_of(30), revision=2, **made)
    assert world.examined().problems == []
    world.wrote("execution", 2500, 2, id_of(30), revision=1, **made)
    assert the_problem(world) == "event 43 books execution 0001.7.01 once more"


@pytest.mark.check("judged_too_soon")
@pytest.mark.rule(3)
@pytest.mark.guarantee(6)
def test_an_order_of_the_present_session_that_is_called_absent_is_found(world: World) -> None:
    world.wrote("session_opened", 2400, 2, session=2)
    world.wrote("order_in_doubt", 2500, 2, id_of(3), reason="session 1 ended and the broker does not show the order")
    world.wrote("order_in_doubt", 2500, 2, id_of(31), reason="sent again under the same order id: not written: shut")
    assert world.examined().problems == []
    world.wrote("order_in_doubt", 2500, 2, id_of(30), reason="session 2 ended and the broker does not show the order")
    assert the_problem(world) == f"order {id_of(30)} is in doubt, and its session 2 is the present one"


@pytest.mark.check("licensed_late")
@pytest.mark.rule(8)
def test_an_order_that_is_licensed_beyond_its_age_is_found(world: World) -> None:
    for number, age in ((50, 8900), (51, 9100)):
        world.wrote("order_accepted", 3000, 2, id_of(number), client_order_id=f"k{number}")
        world.wrote("order_licensed", 3000 + age, 2, id_of(number), session=2, broker_order_id=number)
    assert the_problem(world) == f"order {id_of(51)} was licensed at the age of 9.1 s, 8 s are allowed"


@pytest.mark.check("absent_yet_there")
@pytest.mark.rule(23)
@pytest.mark.guarantee(6)
def test_an_order_that_the_broker_had_and_a_complete_snapshot_did_not_show_is_found(world: World) -> None:
    world.wrote("session_opened", 2400, 2, session=3)
    for number, worth in ((5, "incomplete snapshot: open_orders"), (50, "complete snapshot"), (6, "complete snapshot")):
        world.wrote("order_in_doubt", 4000, 2, id_of(number), reason=f"session 1 ended, it is not shown ({worth})")
    assert the_problem(world) == (
        f"order {id_of(6)} was called absent by a complete snapshot, and the broker had it since 10:00:00"
    )
    world.reached("restart", 3000)  # and forgot what it had taken a moment before
    assert world.examined().problems == []


@pytest.mark.check("ended_yet_alive")
@pytest.mark.rule(25)
@pytest.mark.guarantee(6)
def test_an_order_that_is_ended_here_and_lives_at_the_broker_is_found(world: World) -> None:
    world.wrote("order_cancelled", 4000, 2, id_of(50), reason="cancelled before it was sent")
    world.reached("cancelled", 3900, perm_id=906)
    world.wrote("order_cancelled", 4000, 2, id_of(6))
    assert world.examined().problems == []
    world.wrote("order_rejected", 4000, 2, id_of(7))
    assert the_problem(world) == f"event 43 ends order {id_of(7)}, which the broker had not ended then"


@pytest.mark.check("licensed_while_held")
@pytest.mark.rule(1)
@pytest.mark.guarantee(6)
def test_an_order_licensed_for_a_contract_that_a_break_holds_is_found(world: World) -> None:
    here = {"account": "DU1", "symbol": "IBM"}
    world.wrote("break_opened", 4000, 2, id="B1", holds=True, **here)
    world.wrote("break_opened", 4000, 2, id="B2", holds=False, account="DU1", symbol="SPY")
    for number, fields in enumerate(({"symbol": "SPY"}, {"account": "DU2"}, {"extra": {"break_id": "B1"}}), start=50):
        world.wrote("order_accepted", 5100, 2, id_of(number), session=2, broker_order_id=number, **here | fields)
    world.wrote("order_accepted", 4900, 2, id_of(59), session=2, broker_order_id=59, **here)  # it was on its way
    assert world.examined().problems == []
    world.wrote("order_accepted", 5100, 2, id_of(60), session=2, broker_order_id=60, **here)
    assert the_problem(world) == f"event 47 licenses order {id_of(60)} for IBM, which break B1 holds"
    world.log[-1] = replace(world.log[-1], kind="break_resolved", payload={"id": "B1"})
    world.wrote("order_accepted", 5100, 2, id_of(61), session=2, broker_order_id=61, **here)
    assert world.examined().problems == []


@pytest.mark.check("kept_too_long")
@pytest.mark.rule(6)
def test_an_order_that_ib_was_given_beyond_its_age_and_that_nobody_cancelled_is_found(world: World) -> None:
    last = world.journal[-1]["perm_id"]  # accepted after 2252 ms
    world.reached("working", 2253 + 8900, perm_id=901)
    world.reached("working", 2253 + 9100, perm_id=last)
    assert world.examined().problems == [
        f"{world.journal[1]['order_ref']} was given to IB at the age of 11.1 s and nobody cancelled it",
        f"{world.journal[39]['order_ref']} was given to IB at the age of 9.1 s and nobody cancelled it",
    ]
    world.reached("execution", 2253 + 9200, perm_id=last)  # it traded before anybody could cancel it
    world.reached("cancel", 2253 + 9900, perm_id=901)
    assert world.examined().problems == []


@pytest.mark.check("not_whole")
@pytest.mark.guarantee(7)
@pytest.mark.parametrize(
    ("name", "seen", "said"),
    [
        ("a", None, "after healing a does not answer"),
        ("b", glimpse("LEADING", gate_open=False, reasons=("link",)), "after healing the gate of b is shut: link"),
        (
            "b",
            glimpse("HOLDING", healthy=False, complaints=("held",)),
            "after healing b is HOLDING and not healthy: held",
        ),
        ("a", glimpse("STANDBY", healthy=False), "after healing a is STANDBY and not healthy: no reason given"),
    ],
    ids=["no answer", "gate", "holding", "standby"],
)
def test_a_pair_that_is_not_whole_after_healing_is_found(
    world: World, name: str, seen: Glimpse | None, said: str
) -> None:
    world.standing[name] = seen
    assert the_problem(world) == said


@pytest.mark.check("books_differ")
@pytest.mark.guarantee(8)
def test_books_that_differ_at_the_same_event_are_found_and_those_at_different_ones_are_not_compared(
    world: World,
) -> None:
    world.standing["a"] = glimpse("STANDBY", digest="d2", seq=39)
    assert world.examined().problems == []
    world.standing["a"] = glimpse("STANDBY", digest="d2")
    assert the_problem(world) == "at event 40 the book of a has the digest d2, that of b d1"


@pytest.mark.check("silence_without_end")
@pytest.mark.guarantee(7)
def test_a_silence_beyond_the_budget_or_without_an_end_is_found(world: World) -> None:
    kill = Kill("a", "http://a", at(980))
    world.silences = [Silence(kill, 40_100.0, 300.0)]
    assert the_problem(world) == "nothing reached the broker for 40.1 s after a fell silent"
    world.silences = [Silence(kill, None, None)]
    assert world.examined().problems == []  # nobody asked for an order late enough to see its end
    world.entries.append({"op": "place", "kind": "invoke", "client_order_id": "late", "at": at(41_000).isoformat()})
    assert the_problem(world) == "nothing reached the broker any more after a fell silent"


@pytest.mark.check("unnoticed_loss")
@pytest.mark.rule(18)
@pytest.mark.guarantee(9)
def test_a_log_that_lost_events_and_holds_nothing_is_found(world: World) -> None:
    lost = world.log.pop()
    world.journal.pop()
    world.before = [*world.log, lost]
    assert the_problem(world) == "the log lost 1 events, 40 the first of them, and nothing holds everything"
    world.wrote("break_opened", 2500, 3, id="B1", kind="everything")
    assert world.examined().problems == []


@pytest.mark.check("licensed_while_all_is_held")
@pytest.mark.rule(18)
@pytest.mark.guarantee(9)
def test_a_licence_given_while_everything_is_held_is_found(world: World) -> None:
    world.wrote("break_opened", 2500, 2, id="B1", kind="everything")
    world.wrote("order_accepted", 2501, 2, id_of(50), client_order_id="k50")
    world.wrote("order_licensed", 2502, 2, id_of(50), session=2, broker_order_id=50)
    assert the_problem(world) == f"event 43 licenses order {id_of(50)} while break B1 holds everything"
    world.log[-1] = replace(world.log[-1], kind="break_resolved", payload={"id": "B1"})
    world.wrote("order_licensed", 2503, 2, id_of(50), session=2, broker_order_id=50)
    assert world.examined().problems == []


# ---- the table of checks


def test_each_check_has_a_bad_history_that_it_finds() -> None:
    shown = marked(Path(__file__)) | marked(ROOT / "tests/unit/test_judge.py")
    assert shown == {check.name for check in (*CHECKS, *OF_THE_VERDICT)}


def test_each_guarantee_has_a_check_that_carries_its_number() -> None:
    held = {number for check in (*CHECKS, *OF_THE_VERDICT) for number in check.holds.split()}
    assert {f"G{number}" for number in range(1, 10)} <= held


def test_checks_of_the_verdict_are_fields_of_it_that_count_as_problems() -> None:
    verdict = vars(Verdict)
    for check in OF_THE_VERDICT:
        assert check.name in verdict or check.name in Verdict.__dataclass_fields__, check.name


def test_the_page_has_the_table_of_checks() -> None:
    assert table() in (ROOT / "tests/chaos/README.md").read_text(), "print(tests.chaos.check.table())"


def marked(file: Path) -> set[str]:
    """The names in the marks `check` of a file's tests."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return {
        str(call.args[0].value)
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "check" and isinstance(call.args[0], ast.Constant)
    }


@pytest.mark.guarantee(2)
def test_what_an_old_session_still_brings_to_the_broker_is_listed(world: World) -> None:
    late = [world.reached(kind, 9000, session=11, order_id=3) for kind in ("order", "cancel", "modify")]
    world.reached("working", 9000, session=11, order_id=3)
    world.reached("cancel", 9000, session=12, order_id=4)
    assert sent_on_old_session(world.journal, 11, at(8000)) == late


def test_orders_and_answers_are_found_by_their_time(world: World) -> None:
    assert [taken.perm_id for taken in orders_between(world.journal, CLIENT, at(0), at(100))] == [900, 901]
    assert orders_between(world.journal, 18, at(0), at(100)) == []
    assert [probe.asked for probe in leading_between(world.probes, at(900), at(1250))] == [at(1200)]


def test_refusals_are_answers_other_than_2xx_and_redirects() -> None:
    said = (("ok", 201), ("redirect", 307), ("unavailable", 503), ("unknown", 504), ("refused", 422), ("limited", 429))
    entries = [{"op": "place", "kind": kind, "status": status, "client_order_id": kind} for kind, status in said]
    assert [one.split(":")[0] for one in refusals(entries)] == ["unavailable", "unknown", "refused", "limited"]


def test_attempts_without_an_answer_and_other_operations_are_no_refusals() -> None:
    assert refusals([{"op": "place", "kind": "unknown", "error": "TimeoutError", "client_order_id": "k"}]) == []
    assert refusals([{"op": "place", "kind": "invoke", "client_order_id": "k"}]) == []
    assert refusals([{"op": "cancel", "kind": "refused", "status": 409, "client_order_id": "k"}]) == []
