"""Does a rule's own test fail without the rule? Each runs in a pytest of its own, with and without the mutant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.hook import ROOT, on_path
from tests.mutation.mutant import Mutant

SECONDS = 1200.0
_NO_REASON = {"ImportError", "ModuleNotFoundError", "SyntaxError", "NameError", "NotApplicable", "UnboundLocalError"}
"""What a broken patch looks like: a test that ends by it has caught nothing."""


class NoSuchTest(Exception):
    """A test that is named is not there."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one test ended, in which phase, by which error."""

    test: str
    when: str
    outcome: str
    seconds: float
    error: str | None
    said: str | None

    @property
    def caught(self) -> bool:
        """Whether it failed in its own body, by what it looks for and not by a patch that does not work."""
        return self.outcome == "failed" and self.when == "call" and self.error not in _NO_REASON


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of a mutant before its own tests. `by`: the first that failed for its reason; else `why` nobody did.

    Not `ran`: they say nothing as the product is, so nothing is known.
    """

    by: Ended | None
    why: str = ""
    ran: bool = True


def plain(mutants: Sequence[Mutant]) -> dict[str, str | None]:
    """Why each of their own tests says nothing as the product is (it fails, or is skipped here), None where it passes."""
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.own))
    ended, text = ran(tests, stop=False)
    return {test: _says_nothing([one for one in ended if one.test.partition("[")[0] == test], text) for test in tests}


def _says_nothing(ended: Sequence[Ended], text: str) -> str | None:
    if not ended:
        return f"no such test ran: {_last(text)}"
    if any(one.outcome == "failed" for one in ended):
        return "it fails without the mutant too"
    if all(one.outcome == "skipped" for one in ended):
        return f"it is skipped here: {ended[0].said}"
    return None


def against(mutant: Mutant, without: Mapping[str, str | None] | None = None) -> Caught:
    """Run the mutant's own tests. `without`: how they end without it, as `plain` says; looked at here if not given."""
    without = plain([mutant]) if without is None else without
    tests = [test for test in mutant.own if without[test] is None]
    if not tests:
        return Caught(None, "; ".join(f"{test}: {without[test]}" for test in mutant.own), ran=False)
    mutated, text = ran(tests, mutant.name)
    if by := next((one for one in mutated if one.caught), None):
        return Caught(by)
    failed = [one for one in mutated if one.outcome == "failed"]
    if failed:
        return Caught(None, f"failed for another reason: {failed[0].when} {failed[0].error} {failed[0].said}")
    return Caught(None, "they pass" if mutated else f"no test ran: {_last(text)}")


def ran(tests: Sequence[str], mutant: str | None = None, *, stop: bool = True) -> tuple[list[Ended], str]:
    """How these tests ended, and what pytest said. `stop`: at the first that fails. Raises NoSuchTest."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="mutation-") as place:
        report = Path(place, "report")
        env = os.environ | {"MUTATION_REPORT": str(report)}
        if mutant is not None:
            env["PYTHONPATH"] = stack.enter_context(on_path(mutant))
        command = [sys.executable, "-m", "pytest", *(["-x"] if stop else []), "-q", "-m", "", "-p", "no:cacheprovider"]
        command += ["-p", "tests.mutation.report", *tests]
        said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=SECONDS)
        lines = report.read_text().splitlines() if report.exists() else []
    text = said.stdout + said.stderr
    if missing := [line for line in text.splitlines() if line.startswith("ERROR: not found")]:
        raise NoSuchTest(missing[0])
    return [Ended(**json.loads(line)) for line in lines], text


def _last(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:])[:300]
