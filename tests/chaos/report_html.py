"""The report as one HTML file that needs nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from tests.chaos import report_svg
from tests.chaos.figures import FaultRow, by_name, ms, totals, verdict
from tests.chaos.record import Came, Record, Round
from tests.chaos.report_style import STYLE
from tests.chaos.report_text import about, orders

OPEN_AT_MOST = 24  # rounds; of a longer run only the bad ones are open


def html(record: Record) -> str:
    """The whole page."""
    fine, why = verdict(record)
    word = "Fine" if fine else "Not fine"
    title = f"Chaos, seed {record.run.seed}: {word.lower()}"
    body = "".join(_body(record, fine, word, why))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _body(record: Record, fine: bool, word: str, why: str) -> Iterator[str]:
    css = "good" if fine else "bad"
    yield f'<header class="{css}"><p class="word">{word}</p><p class="why">{escape(why)}</p></header>'
    yield f'<p class="about">{escape(about(record))}</p>'
    yield from _tiles(record)
    yield "<h2>The whole run</h2>"
    yield _legend(record)
    yield f'<div class="strip">{report_svg.of_run(record)}</div>'
    if record.bad:
        yield "<h2>Bad rounds</h2>"
        for one in record.bad:
            yield from _bad(one)
    yield "<h2>Faults</h2>"
    yield from _faults(by_name(record.struck))
    yield "<h2>Orders</h2><ul>"
    yield from (f"<li>{escape(line.partition(' ')[2].strip())}</li>" for line in orders(record))
    yield "</ul><h2>Round by round</h2>"
    few = len(record.rounds) <= OPEN_AT_MOST
    for one in record.rounds:
        yield from _round(one, open_=few or not one.ok)


def _tiles(record: Record) -> Iterator[str]:
    found = totals([record])
    tiles = (
        (found.faults[Came.BIT], "faults under load", f"{found.two_at_once} beside another one"),
        (found.counts["asked"], "orders asked for", f"{found.counts['taken']} at the broker"),
        (found.terms["failover"], "failovers", f"p50 {ms(found.takeover.p50)}, longest {ms(found.takeover.most)}"),
        (ms(None if found.silence.most is None else found.silence.most * 1000), "longest silence", "at the broker"),
        (ms(found.both_ms) if found.both else "never", "two said “I lead”", f"{found.both} times, 1 s is allowed"),
        (found.bad, "bad rounds", f"of {found.rounds}"),
    )
    yield '<div class="tiles">'
    for figure, words, more in tiles:
        yield f'<div class="tile"><b>{figure}</b><span>{words}</span><small>{escape(more)}</small></div>'
    yield "</div>"


def _legend(record: Record) -> str:
    items = [
        '<i class="asked"></i>asked for', '<i class="taken"></i>taken by the broker', '<i class="silence"></i>nothing reached it',
        '<i class="a"></i>a leads', '<i class="b"></i>b leads',
        *(f'<i class="k-{kind}"></i>{kind}' for kind in sorted({one.kind for one in record.struck})),
        '<i class="quiet"></i>in a quiet moment: does not count',
    ]  # fmt: skip
    return f'<p class="legend">{"".join(f"<span>{item}</span>" for item in items)}</p>'


def _faults(rows: Iterable[FaultRow]) -> Iterator[str]:
    rows = list(rows)
    longest = max((row.silence.most or 0.0 for row in rows), default=0.0) or 1.0
    yield (
        '<table><thead><tr><th>fault</th><th>kind</th><th class="n">injected</th><th class="n">counts</th>'
        '<th class="n">quiet</th><th class="n">missed</th><th class="n">p50</th><th class="n">p90</th><th class="n">max</th>'
        "<th>silence at the broker until the next strike</th></tr></thead><tbody>"
    )
    for row in rows:
        spread = row.silence
        figures = (row.injected, row.bit, row.quiet or "", row.missed or "")
        cells = "".join(f'<td class="n">{figure}</td>' for figure in figures)
        cells += "".join(f'<td class="n">{ms(value)}</td>' for value in (spread.p50, spread.p90, spread.most))
        bars = "".join(
            f'<i class="{css}" style="width:{100 * (value or 0.0) / longest:.1f}%"></i>'
            for css, value in (("most", spread.most), ("p90", spread.p90), ("p50", spread.p50))
        )
        no_end = f" <small>{row.no_end} without end</small>" if row.no_end else ""
        yield f"<tr><td>{escape(row.name)}</td><td><i class='dot k-{row.kind}'></i>{row.kind}</td>{cells}"
        yield f'<td><div class="bars">{bars}</div>{no_end}</td></tr>'
    yield "</tbody></table>"


def _bad(one: Round) -> Iterator[str]:
    yield f'<section class="bad"><h3><a href="#round-{one.number}">Round {one.number}</a></h3><ul>'
    yield from (f"<li>{escape(problem)}</li>" for problem in one.problems)
    yield f"</ul><p>Again: <code>{escape(one.replay)}</code></p>"
    if one.kept:
        yield f"<p>What is left of it: <code>{escape(one.kept)}</code></p>"
    yield "</section>"


def _round(one: Round, *, open_: bool) -> Iterator[str]:
    counts = one.counts
    missed = [struck for struck in one.struck if struck.came is Came.MISSED]
    word = '<b class="good">fine</b>' if one.ok else '<b class="bad">bad</b>'
    line = f"{counts.get('asked', 0)} orders, {counts.get('taken', 0)} at the broker"
    if counts.get("in_doubt") or counts.get("called_dead"):
        line += f", {counts.get('in_doubt', 0)} in doubt, {counts.get('called_dead', 0)} called dead at the desk"
    state = ' open="open"' if open_ else ""
    yield f'<details id="round-{one.number}"{state}><summary>Round {one.number} {word} <small>{line}; cluster '
    yield f'{one.cluster}, {one.took:.0f} s with healing and judging</small></summary><div class="strip">'
    yield f"{report_svg.of_round(one)}</div>"
    for struck in missed:
        yield f'<p class="missed">{escape(struck.name)} did not take effect: {escape(struck.words)}</p>'
    yield "</details>"
