"""The docs say what the code does, and a machine looks: rules and their tests, diagrams, links, commands, settings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from ha.cli import app
from ha.config_docs import markdown
from tests.docs_tool import BLOCKS, DOCS, ROOT, blocks_of, made, marks, names_in

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
_WHERE = re.compile(r"`([\w./-]+\.(?:py|sql)):([\w.]+)`")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows(page: str, letter: str) -> dict[int, list[str]]:
    """The cells of each table row that begins with a number such as R12."""
    found: dict[int, list[str]] = {}
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if match := re.fullmatch(rf"{letter}(\d+)", cells[0].strip("| ")):
            assert int(match[1]) not in found, f"{cells[0]} stands twice in {page}"
            found[int(match[1])] = cells
    return found


RULES, GUARANTEES = rows("rules.md", "R"), rows("safety.md", "G")
RULE_MARKS, GUARANTEE_MARKS = marks("rule"), marks("guarantee")


def status(cells: list[str]) -> str:
    """`held`, `partly` or `not yet`, from the last cell."""
    found = re.match(r"(held|partly|not yet)\b", cells[-1].strip("| "))
    assert found, f"{cells[0]}: the status is held, partly: …, or not yet"
    return found[1]


def test_every_rule_and_guarantee_has_its_row() -> None:
    assert sorted(RULES) == list(range(1, 38))
    assert sorted(GUARANTEES) == list(range(1, 10))


@pytest.mark.parametrize("number", range(1, 38))
def test_rule_is_where_its_row_says_with_a_test_that_carries_its_number(number: int) -> None:
    cells, marked = RULES[number], RULE_MARKS.get(number, set())
    places, tests = _WHERE.findall(" ".join(cells)), {"::".join(found) for found in _TEST.findall(" ".join(cells))}
    if status(cells) == "not yet":
        assert not marked, f"R{number} has tests ({', '.join(sorted(marked))}): its row must say what is held"
        return
    assert places, f"R{number}: name the code, `room/file.py:function`"
    for path, name in places:
        assert (ROOT / path).is_file(), f"R{number}: there is no {path}"
        names = names_in(ROOT / path) if path.endswith(".py") else set(re.findall(r"\w+", (ROOT / path).read_text()))
        assert name.split(".")[-1] in names if path.endswith(".sql") else name in names, (
            f"R{number}: {path} has no {name}"
        )
    assert tests, f"R{number}: name the test that carries it"
    assert tests <= marked, f"R{number}: not marked with it: {', '.join(sorted(tests - marked))}"
    mention = re.compile(rf"\bR{number}\b")
    assert any(mention.search((ROOT / path).read_text()) for path, _ in places), f"R{number} is not named in its code"


@pytest.mark.parametrize("number", range(1, 10))
def test_guarantee_names_tests_that_carry_its_number(number: int) -> None:
    tests = {"::".join(found) for found in _TEST.findall(" ".join(GUARANTEES[number]))}
    assert tests, f"G{number}: name a test"
    assert tests <= GUARANTEE_MARKS.get(number, set()), f"G{number}: not marked with it"


def test_no_test_carries_a_number_that_the_docs_do_not_have() -> None:
    assert set(RULE_MARKS) <= set(RULES)
    assert set(GUARANTEE_MARKS) <= set(GUARANTEES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_made_from_the_code_is_as_the_code_has_it(page: Path) -> None:
    assert made(page.read_text()) == page.read_text(), "run: python -m tests.docs_tool --write"


def test_every_block_stands_in_a_page() -> None:
    assert {name for page in PAGES for name in blocks_of(page.read_text())} == set(BLOCKS)


def test_settings_are_as_the_code_has_them() -> None:
    assert (DOCS / "settings.md").read_text() == markdown(), "run: python -m ha.config --markdown docs/settings.md"


def anchors(page: Path) -> set[str]:
    """The names by which a heading of a page is linked to."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        assert ROOT in there.parents, f"{page.name} links out of the project: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    for name in re.findall(r"`((?:engine|ha|reconcile|ibsim|client|tests|deploy|docs)/[\w./-]*)", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    code = "\n".join(re.findall(r"`[^`\n]+`|^```(?:sh|console)\n.*?^```", page.read_text(), re.DOTALL | re.MULTILINE))
    commands = set(getattr(get_command(app), "commands", {}))
    assert commands
    for name in re.findall(r"(?:^|[`$] ?|/)adapter ([a-z]+)", code, re.MULTILINE):
        assert name in commands, f"{page.name} names `adapter {name}`"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in re.findall(r"(?:^|[`$] ?)make ([a-z-]+)", code, re.MULTILINE):
        assert name in targets, f"{page.name} names `make {name}`"


def test_nothing_in_the_tree_names_the_place_where_it_was_made() -> None:
    words = "|".join(
        (
            "/wor" + "k/",
            r"INTERFAC" + r"ES\.md",
            r"RUL" + r"ES\.md",
            "BROKER_" + "FACTS",
            "ETCD_" + "FACTS",
            "LAB_" + "FACTS",
        )
    )
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".sql", ".toml", ".cfg", ".yml", ".yaml", ".json", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not (found := re.search(words, text)), f"{name} names {found and found[0]}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160
