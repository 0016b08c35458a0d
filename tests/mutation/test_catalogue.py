"""The catalogue covers every rule, each patch still finds what it changes, and a test fails where its rule is switched off."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from tests.mutation import table
from tests.mutation.catalogue import ALL
from tests.mutation.hook import NOT_APPLIED, ROOT, on_path
from tests.mutation.mutant import InSimulation, Mutant, NotApplicable, OnCluster, Rewrite, Sql, Step
from tests.mutation.own import against, plain, ran
from tests.mutation.scenes import SCENES
from tests.simulation.faults import FAULTS
from tests.simulation.mutations import MUTATIONS

SAFETY = frozenset({1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 18, 19, 20, 21, 23, 25, 26, 27})
"""Rules without which crashes and faults alone lose, double, delay or misbook an order, or let two leaders act: the judge
must see it when one is off. R7, R28 and R37 are about what clients and persons do (changes, another body under a key), which is
not in the judge's runs; the other rules keep the pair available."""


def test_every_rule_has_a_mutant_and_every_rule_of_safety_one_for_the_judge_or_says_why_not() -> None:
    assert {mutant.rule for mutant in ALL} == set(range(1, 38))
    assert {mutant.rule for mutant in ALL if mutant.judged is not None or mutant.unseen} >= SAFETY
    assert len({mutant.name for mutant in ALL}) == len(ALL)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_patch_finds_what_it_changes_changes_it_and_is_undone(mutant: Mutant) -> None:
    before = [there(step) for step in mutant.steps]
    with mutant.applied():
        assert all(there(step) is not found for step, found in zip(mutant.steps, before, strict=True))
    assert all(there(step) is found for step, found in zip(mutant.steps, before, strict=True))


def there(step: Step) -> object:
    """What the patch replaces; for the database, what migrates it."""
    module, name = ("engine.migrate", "_grant") if isinstance(step, Sql) else (step.module, step.name)  # type: ignore[attr-defined]
    owner, attribute = importlib.import_module(module), name
    if "." in name:
        where, attribute = name.split(".")
        owner = getattr(owner, where)
    return inspect.getattr_static(owner, attribute)


@pytest.mark.parametrize(
    "step",
    [
        Rewrite("engine.permit", "Permit.proven", "no such text", ""),
        Rewrite("engine.permit", "Permit.no_such_function", "x", ""),
        Rewrite("engine.permit", "Permit.proven", "self", "this"),
        Sql("ledger.no_such_function", (("x", "y"),)),
        Sql("ledger.fence", (("no such text", ""),)),
    ],
    ids=["text", "name", "ambiguous", "function", "sql"],
)
def test_patch_whose_target_is_gone_is_refused(step: Rewrite | Sql) -> None:
    with pytest.raises(NotApplicable):
        step.apply()


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_its_own_tests_exist_and_carry_its_rule(mutant: Mutant) -> None:
    assert mutant.own
    for test in mutant.own:
        assert mutant.rule in carried(test), f"{test} is not there, or does not carry R{mutant.rule}"


def test_what_the_judge_is_asked_exists() -> None:
    for mutant in ALL:
        if isinstance(mutant.judged, OnCluster):
            assert mutant.judged.scene in SCENES
        elif isinstance(mutant.judged, InSimulation):
            assert set(mutant.judged.faults) <= set(FAULTS)
            assert mutant.judged.mutation is None or mutant.judged.mutation in MUTATIONS


def test_the_page_is_what_was_run() -> None:
    assert table.page(table.load()) == table.PAGE.read_text(), "run: python -m tests.mutation --page"


QUICK = [one for one in ALL if one.name in ("R02_any_session", "R12_proof_never_ages", "R37_any_body")]


@pytest.fixture(scope="module")
def without() -> dict[str, str | None]:
    """What their own tests say as the product is."""
    return plain(QUICK)


@pytest.mark.parametrize("mutant", QUICK, ids=lambda mutant: mutant.name)
def test_own_test_fails_where_its_rule_is_off(mutant: Mutant, without: dict[str, str | None]) -> None:
    caught = against(mutant, without)
    assert caught.by is not None, caught.why


def test_a_process_in_which_the_mutant_cannot_be_applied_does_not_run() -> None:
    ended, said = ran(["tests/unit/test_permit.py"], "no_such_mutant")
    assert not ended
    assert "no_such_mutant could not be applied" in said
    assert NOT_APPLIED != 0
    with on_path("R12_proof_never_ages") as path:
        assert Path(path.split(":")[0], "sitecustomize.py").is_file()
    assert not Path(path.split(":")[0]).exists()


def carried(test: str) -> set[int]:
    """The rules in the marks of a test and of its module; an inherited test is looked for where it is written."""
    path, *names = test.partition("[")[0].split("::")
    tree = ast.parse((ROOT / path).read_text())
    bodies: list[list[ast.stmt]] = [tree.body]
    if len(names) > 1:
        [named] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == names[0]]
        contract = ast.parse((ROOT / "tests/integration/lease_contract.py").read_text())
        bodies = [named.body, *(node.body for node in contract.body if isinstance(node, ast.ClassDef))]
    for node in [node for body in bodies for node in body]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == names[-1]:
            return _rules(*node.decorator_list, *[one for one in tree.body if _is_module_mark(one)])
    return set()


def _is_module_mark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
    )


def _rules(*nodes: ast.AST) -> set[int]:
    calls = [one for node in nodes for one in ast.walk(node) if isinstance(one, ast.Call)]
    return {
        int(call.args[0].value)  # type: ignore[arg-type]
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "rule"
        if call.args and isinstance(call.args[0], ast.Constant)
    }
