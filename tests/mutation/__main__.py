"""python -m tests.mutation [--rule R12] [--mutant NAME] [--judge] [--runs 20]: switch rules off, and see who notices.

Without --judge each mutant meets the tests of its own rule; with it the judge, where the rule is one of safety. What was run is
kept in tests/chaos/mutations.json and told in tests/chaos/mutations.md. Exit code 1 when a mutant survived.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from tests.mutation import table
from tests.mutation.catalogue import ALL
from tests.mutation.judged import as_it_is, by_judge
from tests.mutation.mutant import InSimulation, Mutant
from tests.mutation.own import against, plain
from tests.mutation.scenes import SCENES
from tests.mutation.table import Judged, Own, Result


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--rule", action="append", default=[], help="R12; may be given again")
    parser.add_argument("--mutant", action="append", default=[], help="a mutant's name; may be given again")
    parser.add_argument(
        "--judge", choices=("all", "simulation", "cluster"), nargs="?", const="all", help="let the judge look"
    )
    parser.add_argument("--runs", type=int, default=20, help="at most so many runs of the judge")
    parser.add_argument("--missing", action="store_true", help="only what was not run, or survived")
    parser.add_argument("--scene", choices=sorted(SCENES), help="play this scenario without any mutant, --runs times")
    parser.add_argument("--page", action="store_true", help="write the page anew from what was run")
    asked = parser.parse_args()
    if asked.scene is not None:
        print(seen := as_it_is(asked.scene, asked.runs))
        return 0 if seen.caught_in is None else 1
    if asked.page:
        table.save(table.load())
        return 0
    rules = {int(rule.lstrip("R")) for rule in asked.rule}
    chosen = [one for one in ALL if (not rules or one.rule in rules) and (not asked.mutant or one.name in asked.mutant)]
    if not chosen:
        parser.error(f"no such mutant; there are: {', '.join(one.name for one in ALL)}")
    if asked.missing and asked.judge is None:
        known = table.load()
        chosen = [one for one in chosen if (own := known.get(one.name, Result()).own) is None or own.test is None]
    without = plain(chosen) if asked.judge is None else {}
    survived = [one.title for one in chosen if not _met(one, asked, without)]
    print(f"{len(chosen)} mutants; survived: {', '.join(survived) or 'none'}")
    return 1 if survived else 0


def _met(mutant: Mutant, asked: argparse.Namespace, without: Mapping[str, str | None]) -> bool:
    """Run it, keep what came of it; whether it was caught."""
    known = table.load().get(mutant.name, Result())
    at = f"{datetime.now(UTC):%Y-%m-%d}"
    if asked.judge is None:
        caught = against(mutant, without)
        by = caught.by
        if not caught.ran:
            print(f"{mutant.title}: nothing is known, {caught.why}", flush=True)
            return False
        own = Own(None, caught.why, at) if by is None else Own(by.test, f"{by.error}: {by.said}", at)
        _keep(mutant, own=own)
        print(f"{mutant.title}: {own.test or 'SURVIVED'} ({own.said})", flush=True)
        return by is not None
    where = mutant.judged
    if where is None or (asked.judge != "all" and (asked.judge == "simulation") is not isinstance(where, InSimulation)):
        return True
    if asked.missing and known.judged is not None and known.judged.caught_in is not None:
        return True
    print(f"{mutant.title} in {where} ...", flush=True)
    seen = by_judge(mutant, asked.runs)
    _keep(mutant, judged=Judged(str(where), seen.caught_in, seen.runs, seen.said, at))
    print(
        f"{mutant.title}: {'SURVIVED' if seen.caught_in is None else f'run {seen.caught_in}'} ({seen.said})", flush=True
    )
    return seen.caught_in is not None


def _keep(mutant: Mutant, **what: Own | Judged) -> None:
    results = table.load()  # anew: another process may have written meanwhile
    results[mutant.name] = replace(results.get(mutant.name, Result()), **what)  # type: ignore[arg-type]
    table.save(results)


if __name__ == "__main__":
    sys.exit(main())
