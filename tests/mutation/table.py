"""What became of each mutant, kept in `tests/chaos/mutations.json` and told in `tests/chaos/mutations.md`. Only what was run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutation.catalogue import ALL
from tests.mutation.mutant import Mutant

HERE = Path(__file__).parents[1] / "chaos"
RESULTS, PAGE = HERE / "mutations.json", HERE / "mutations.md"
NOT_RUN = "not run"

_HEAD = """# Mutations: each rule switched off in turn

Written by `make mutation` (`python -m tests.mutation`), from runs and from nothing else. A mutant is the adapter with one rule
switched off by a patch that lives in `tests/mutation` only. It must be caught by a test that carries the rule's number, and,
where the rule is one of safety, by the judge within {most} runs: that of the simulation (a run is one seed) or that of the cluster
of real processes (a run is one scenario). The same test passes, and the same seed is fine, without the mutant.

*Safety* means here: without the rule an order can be lost, sent twice, sent late or booked wrongly, or two leaders can act, by
crashes and faults alone. The others keep the pair available, keep a person's or a client's mistake from doing harm, or are
settings that are refused; the judge has no such people in its runs, and their own tests are all that there is.
"""


@dataclass(frozen=True, slots=True)
class Own:
    """How the rule's own tests met the mutant. `test` caught it, by `said`; None: it survived, and `why`."""

    test: str | None
    said: str
    at: str


@dataclass(frozen=True, slots=True)
class Judged:
    """How the judge met it: in which run it was caught (None: in none of `runs`), and what it said."""

    where: str
    caught_in: int | None
    runs: int
    said: str
    at: str


@dataclass(frozen=True, slots=True)
class Result:
    """All that was run of one mutant; None = not run."""

    own: Own | None = None
    judged: Judged | None = None


def load() -> dict[str, Result]:
    """By the mutant's name."""
    if not RESULTS.exists():
        return {}
    found = json.loads(RESULTS.read_text())
    return {
        name: Result(
            None if one["own"] is None else Own(**one["own"]),
            None if one["judged"] is None else Judged(**one["judged"]),
        )
        for name, one in found.items()
    }


def save(results: dict[str, Result]) -> None:
    """Write both files; what is not in the catalogue any more falls out."""
    known = {mutant.name: results[mutant.name] for mutant in ALL if mutant.name in results}
    RESULTS.write_text(json.dumps({name: asdict(one) for name, one in known.items()}, indent=1) + "\n")
    PAGE.write_text(page(known))


def page(results: dict[str, Result], most: int = 20) -> str:
    """The table, and who survived."""
    lines = [_HEAD.format(most=most)]
    lines += ["| rule | mutant: what is off | its own test | the judge's scenario or faults | runs until caught |"]
    lines += ["|---|---|---|---|---|"]
    lines += [_line(mutant, results.get(mutant.name, Result())) for mutant in ALL]
    lines += ["", "## Survivors", ""]
    lines += list(_survivors(results)) or ["None."]
    return "\n".join(lines) + "\n"


def _line(mutant: Mutant, result: Result) -> str:
    own, judged = result.own, result.judged
    test = NOT_RUN if own is None else f"**survived**: {own.said}" if own.test is None else f"`{own.test}`"
    where, runs = ("", mutant.unseen) if mutant.judged is None else (str(mutant.judged), NOT_RUN)
    if judged is not None and mutant.judged is not None:
        runs = f"**not in {judged.runs}**" if judged.caught_in is None else f"{judged.caught_in}: {judged.said}"
    cells = (f"R{mutant.rule}", f"`{mutant.name}`: {mutant.says}", test, where, runs)
    plain = (cell.replace("|", "/").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(plain)} |"


def _survivors(results: dict[str, Result]) -> Iterator[str]:
    for mutant in ALL:
        result = results.get(mutant.name, Result())
        if result.own is not None and result.own.test is None:
            yield f"- {mutant.title}, before its own tests: {result.own.said}."
        if mutant.judged is not None and result.judged is not None and result.judged.caught_in is None:
            yield f"- {mutant.title}, before the judge ({result.judged.where}): {result.judged.said}."
        if mutant.unseen:
            yield f"- {mutant.title}: no judge was asked, {mutant.unseen}."
