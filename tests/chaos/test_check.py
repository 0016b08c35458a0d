"""The checks as a whole, and the small ones; those of the log, of the broker and of who leads have files of their own."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from ha.demo.judge import Verdict
from tests.chaos.check import (
    CHECKS,
    LEAST_ASKED,
    OF_THE_VERDICT,
    Examined,
    leading_between,
    orders_between,
    refusals,
    sent_on_old_session,
    table,
)
from tests.chaos.check_factory import CLIENT, World, at, the_problem

ROOT = Path(__file__).parents[2]


def test_a_pair_that_did_everything_right_has_no_problem(world: World) -> None:
    assert world.examined() == Examined([])


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


def test_each_check_has_a_bad_history_that_it_finds() -> None:
    files = [*Path(__file__).parent.glob("test_check*.py"), ROOT / "tests/unit/test_judge.py"]
    shown = {name for file in files for name in marked(file)}
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
