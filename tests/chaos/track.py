"""`python -m tests.chaos.track RECORD...`: the figures of these runs, written into docs/track-record.md.

Only what stands between the page's two marks is replaced; the rest of it is written by hand. `--print` changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.figures import WRONG, FaultRow, Spread, by_kind, by_name, clock, ms, totals
from tests.chaos.parts import ROOT
from tests.chaos.record import BadRecord, Came, Record, read

PAGE = ROOT / "docs" / "track-record.md"
BEGIN, END = "<!-- runs -->", "<!-- end of runs -->"
EDGES = (250.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)  # ms


class NoMarks(ValueError):
    """The page has no place for the figures."""


def written(page: str, records: Sequence[Record]) -> str:
    """The page with these runs' figures. Raises NoMarks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoMarks(f"the page lacks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{summary(records)}\n{END}{after}"


def summary(records: Sequence[Record]) -> str:
    """The figures as Markdown."""
    return "\n".join(_lines(records))


def _lines(records: Sequence[Record]) -> Iterator[str]:
    found = totals(records)
    struck = [one for record in records for one in record.struck]
    faults, counts = found.faults, found.counts
    unit = "hours" if found.seconds >= 3600 else "minutes"
    yield (
        f"{faults[Came.BIT]:,} random faults under load in {clock(found.seconds)} {unit}, "
        f"{found.two_at_once:,} of them beside another one, in {found.rounds} rounds, {found.bad} of them bad. Apart and not "
        f"counted: {faults[Came.QUIET]} in a quiet moment, {faults[Came.MISSED]} that did not take effect."
    )
    yield "\n| began | seed | form | time | rounds | bad | faults | orders | failovers | longest silence | at |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    yield from (_run(record) for record in records)
    yield "\n### Orders\n"
    yield (
        f"{counts['asked']:,} asked for, {counts['answered']:,} answered 2xx, {counts['taken']:,} taken by the broker, "
        f"{counts['unsent']:,} answered and never sent (expired by their age, cancelled, or called dead), "
        f"{counts['unknown']:,} of unknown outcome to a client that gave them up. "
        f"In doubt: {counts['called_dead']:,} called dead by an operator during a round, {counts['in_doubt']:,} still "
        "in doubt at a round's end."
    )
    yield f"\nWhat must not happen: {', '.join(f'{counts[name]} {words}' for name, words in WRONG.items())}."
    yield "\n### Leaders\n"
    terms = ", ".join(f"{count:,} by {kind}" for kind, count in sorted(found.terms.items())) or "none"
    yield (
        f"Terms that began: {terms}. A failover by the pair's own clock, from noticing to the first order: "
        f"{_spread(found.takeover)}. "
        f"Two replicas answered 200 on `/leader` at once {found.both} times, for {ms(found.both_ms)} at most (1 s is allowed)."
    )
    yield "\n### Silence at the broker, by fault\n"
    yield "The longest time without an order at the broker between a fault and the next one; it may have begun before it."
    yield "\n| fault | kind | injected | counts | quiet | missed | p50 | p90 | max |\n|---|---|---|---|---|---|---|---|---|"
    yield from (_fault(row) for row in by_name(struck))
    yield "\n### Silence at the broker, how often\n"
    yield from _distribution(records)


def _run(record: Record) -> str:
    run, found = record.run, totals([record])
    longest = ms(None if found.silence.most is None else found.silence.most * 1000)
    cells = (
        f"{run.began[:16].replace('T', ' ')}", str(run.seed), run.form + (f", {'+'.join(run.kinds)}" if run.kinds else ""),
        clock(record.seconds), str(found.rounds), str(found.bad), f"{found.faults[Came.BIT]:,}", f"{found.counts['asked']:,}",
        str(found.terms["failover"]), longest, run.version or "–",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _fault(row: FaultRow) -> str:
    figures = (row.injected, row.bit, row.quiet, row.missed)
    most = ms(row.silence.most) + (f" ({row.no_end} without end)" if row.no_end else "")
    cells = (f"`{row.name}`", row.kind, *map(str, figures), ms(row.silence.p50), ms(row.silence.p90), most)
    return f"| {' | '.join(cells)} |"


def _distribution(records: Sequence[Record]) -> Iterator[str]:
    """How many faults of each kind were followed by a silence of which length."""
    marks = [ms(edge) for edge in EDGES]
    heads = [f"below {marks[0]}", *(f"to {mark}" for mark in marks[1:]), f"above {marks[-1]}", "without end"]
    yield f"| kind | faults | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 2) + "|"
    bit = [one for record in records for one in record.took_effect]
    for row in by_kind(bit):
        counts = [0] * (len(EDGES) + 2)
        for one in (one for one in bit if one.kind == row.kind):
            counts[-1 if one.silence_ms is None else bisect_right(EDGES, one.silence_ms)] += 1
        yield f"| {row.kind} | {row.bit:,} | {' | '.join(str(count or '') for count in counts)} |"


def _spread(spread: Spread) -> str:
    return f"p50 {ms(spread.p50)}, p90 {ms(spread.p90)}, longest {ms(spread.most)}" if spread.count else "none was seen"


def main(argv: Sequence[str] | None = None) -> int:
    """0 = written, 2 = wrong usage, no record, or no page to write into."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.track", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD")
    parser.add_argument("--print", action="store_true", help="print the figures, write nothing")
    options = parser.parse_args(argv)
    try:
        records = [read(path.read_text(encoding="utf-8")) for path in options.records]
        if options.print:
            print(summary(records))
        else:
            PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), records), encoding="utf-8")
    except (BadRecord, NoMarks, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
