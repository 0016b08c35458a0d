"""docs/model with fewer faults than `make model`: the protocol holds, and each rule that is taken away is missed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "docs" / "model"
CORES = max(1, min(4, len(os.sched_getaffinity(0))))
missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]


def rows() -> dict[str, str]:
    """The table of check.sh: each row's name, and what is expected of it."""
    text = (MODEL / "check.sh").read_text()
    return dict(re.findall(r"^(\w+) +\| (\w+) +\| \d+ \d+ \d+ \|", text, re.MULTILINE))


def checked(names: list[str]) -> str:
    """What check.sh says of these rows."""
    ran = subprocess.run(
        [MODEL / "check.sh", "--quick", *names], capture_output=True, text=True, check=False, timeout=400
    )
    return ran.stdout + ran.stderr


@pytest.mark.timeout(420)
@pytest.mark.skipif(
    bool(missing) and os.environ.get("CI") != "true",
    reason=f"{' and '.join(missing)} missing; sudo apt-get install -y spin gcc libc6-dev",
)
@pytest.mark.parametrize(
    "guarantees", [pytest.param("all", marks=[pytest.mark.guarantee(n) for n in (1, 2, 3, 4, 6, 9)])]
)
def test_the_protocol_holds_in_every_run_and_each_rule_that_is_taken_away_is_missed(guarantees: str) -> None:
    expected = rows()
    assert len(expected) > 40
    names = list(expected)
    with ThreadPoolExecutor(CORES) as pool:
        said = "".join(pool.map(checked, [names[n::CORES] for n in range(CORES)]))
    found = {name: got for name, _, got in re.findall(r"^(\w+) +(\w+) +(\w+) +\d+ +[\d.e+]+ ", said, re.MULTILINE)}
    assert found == expected, said


def test_the_readme_shows_every_row_with_what_was_found() -> None:
    """The table in README.md is a run's print, as far as names and findings go."""
    shown = re.findall(r"^(\w+) +(\w+) +(\w+) +\d+ +\d+ +[\d.]+", (MODEL / "README.md").read_text(), re.MULTILINE)
    assert {name: expect for name, expect, _ in shown} == rows()
    assert all(expect == got for _, expect, got in shown)
