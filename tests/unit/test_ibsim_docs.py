"""The stand-in's page: every fact and every fault names tests that exist, and its examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ibsim.faults import FAULTS
from ibsim.hand import OPTIONS
from ibsim.messages import REQUESTS
from ibsim.options import parser
from tests.docs_tool import DOCS, ROOT, names_in

PAGE = (DOCS / "stand-in-gateway.md").read_text()
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SOURCES = {"doc", "captured", "observed", "source", "inferred"}


def section(heading: str) -> str:
    """The text under a heading of the second level."""
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    return [row for row in cells if row[0] not in ("fact", "fault", "call", "subject")]


FACTS, BROKEN = rows(section("Facts about the real gateway")), rows(section("Faults"))


def test_every_fact_has_its_source_and_a_test() -> None:
    assert len(FACTS) > 55
    for fact, source, shown, _ in FACTS:
        assert set(source.split(", ")) <= SOURCES, fact
        assert _TEST.search(shown) or shown.startswith("no test: "), fact
    assert sum(shown.startswith("no test: ") for _, _, shown, _ in FACTS) == 1


def test_a_fact_is_confirmed_by_a_version_and_a_date_or_not_at_all() -> None:
    for fact, _, _, confirmed in FACTS:
        assert re.fullmatch(r"(?:[\w.]+, \d{4}-\d\d-\d\d)?", confirmed), fact


@pytest.mark.parametrize(("path", "name"), sorted(set(_TEST.findall(PAGE))))
def test_every_test_that_the_page_names_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), path
    assert name in names_in(ROOT / path), f"{path} has no {name}"


def test_every_fault_stands_in_the_table_with_a_test() -> None:
    named = {re.match(r"`(\w+)`", row[0])[1]: row[-1] for row in BROKEN}  # type: ignore[index]
    assert set(named) == set(FAULTS)
    assert all(_TEST.search(shown) for shown in named.values())
    for name, defaults in FAULTS.items():
        for parameter in defaults:
            told = next(row[0] for row in BROKEN if row[0].startswith(f"`{name}`"))
            assert f'"{parameter}"' in told or parameter == "percent" or not told.count("{"), f"{name}: {parameter}"


def test_every_request_that_is_served_is_listed() -> None:
    served = set(re.findall(r"`(\w+)`", section("What it serves").split("\nEvery other request")[0]))
    assert {name for name, _ in REQUESTS.values() if not name.startswith("cancel")} <= served


def test_options_and_settings_that_the_page_names_exist() -> None:
    known = {option for action in parser()._actions for option in action.option_strings}
    conformance = {"--against", "--record", "--trade", "--client-id", "--soak"}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known | conformance
    assert all(f'"{name}"' in PAGE for name in OPTIONS)


def test_the_examples_run(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", section("From another project's tests"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        (tmp_path / f"test_example_{number}.py").write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
