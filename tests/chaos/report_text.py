"""The report as plain text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.chaos.figures import WRONG, FaultRow, by_name, clock, ms, totals, verdict
from tests.chaos.record import Came, Record, Round


def text(record: Record) -> str:
    """The whole of it, without a newline at the end."""
    return "\n".join(_lines(record))


def _lines(record: Record) -> Iterator[str]:
    run, found = record.run, totals([record])
    fine, why = verdict(record)
    yield f"{'FINE' if fine else 'NOT FINE'}: {why}"
    yield about(record)
    yield ""
    faults = found.faults
    yield (
        f"faults     {faults[Came.BIT]} took effect under load ({found.two_at_once} of them beside another one); apart: "
        f"{faults[Came.QUIET]} in a quiet moment, {faults[Came.MISSED]} did not take effect"
    )
    yield from orders(record)
    yield f"terms      {', '.join(f'{count} by {kind}' for kind, count in sorted(found.terms.items())) or 'none began'}"
    yield (
        f"takeovers  {_spread(found.takeover)} by the pair's own clock; "
        f"both replicas said that they lead {found.both} times, {ms(found.both_ms)} at most"
    )
    yield ""
    yield from table(by_name(record.struck))
    for bad in record.bad:
        yield ""
        yield from _bad(bad)
    if run.source:
        yield f"\nplayed again from {run.source}"


def about(record: Record) -> str:
    """The run in a line."""
    run = record.run
    only = f", only {' and '.join(run.kinds)}" if run.kinds else ""
    version = f", at {run.version}" if run.version else ""
    end = f"; {record.end}" if record.end else "; its own end is not recorded"
    return (
        f"seed {run.seed}, {run.form} form{only}, {run.rate:g} orders a second, {len(record.rounds)} rounds in "
        f"{clock(record.seconds)}, began {run.began[:19]}Z{version}{end}"
    )


def orders(record: Record) -> Iterator[str]:
    """What became of the orders."""
    counts = totals([record]).counts
    yield (
        f"orders     {counts['asked']} asked for, {counts['answered']} answered 2xx, {counts['taken']} at the broker; "
        f"{counts['unsent']} answered and never sent, {counts['unknown']} of unknown outcome to their client"
    )
    yield f"doubt      {counts['in_doubt']} in doubt at a round's end, {counts['called_dead']} called dead at the desk before"
    yield f"wrong      {', '.join(f'{counts[name]} {words}' for name, words in WRONG.items())}"


def table(rows: Sequence[FaultRow]) -> Iterator[str]:
    """The faults with what came of them; silence at the broker until the next strike."""
    heads = ("fault", "kind", "injected", "counts", "quiet", "missed", "silence p50", "p90", "max")
    cells = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    for row in cells:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join([*left, *right]).rstrip()


def _cells(row: FaultRow) -> tuple[str, ...]:
    spread = row.silence
    counted = (str(n) for n in (row.injected, row.bit, row.quiet, row.missed))
    most = ms(spread.most) + (f" ({row.no_end} without end)" if row.no_end else "")
    return (row.name, row.kind, *counted, ms(spread.p50), ms(spread.p90), most)


def _bad(one: Round) -> Iterator[str]:
    yield f"round {one.number} is bad:"
    for problem in one.problems:
        yield f"  {problem}"
    yield f"  again: {one.replay}"
    if one.kept:
        yield f"  what is left of it: {one.kept}"


def _spread(spread: object) -> str:
    count, p50, p90, most = (getattr(spread, name) for name in ("count", "p50", "p90", "most"))
    return f"{count} failovers, p50 {ms(p50)}, p90 {ms(p90)}, longest {ms(most)}" if count else "none"
