"""A plugin for pytest that writes down how each test ended, and by what: `-p tests.mutation.report`, MUTATION_REPORT=FILE."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.CollectReport, None]:
    """One line for each phase that is a test's own, or that failed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when != "call" and report.outcome == "passed":
        return
    error = call.excinfo
    line = {
        "test": item.nodeid, "when": report.when, "outcome": report.outcome, "seconds": round(call.duration, 2),
        "error": None if error is None else error.type.__name__,
        "said": None if error is None else (str(error.value).strip().splitlines() or [""])[0][:200],
    }  # fmt: skip
    with Path(os.environ["MUTATION_REPORT"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
