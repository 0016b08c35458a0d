"""The timelines of a run as SVG: who led, what struck, when nothing reached the broker, orders a second. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from tests.chaos.figures import clock, ms
from tests.chaos.record import Came, Lead, Record, Round, Struck

WIDTH = 1080.0
LEFT = 74.0  # for the lanes' names
ORDERS = 64.0  # the height of the orders' curve
LANE = 15.0
GAP = 8.0
LETTER = 6.1  # the width of one, roughly
ALL_BINS = 360  # of the curve over a whole run


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds to places."""

    seconds: float

    def x(self, at: float) -> float:
        """Where a moment lies; what is outside lies at the edge."""
        return LEFT + (WIDTH - LEFT) * min(1.0, max(0.0, at / self.seconds))


def of_round(one: Round) -> str:
    """One round, second by second."""
    seconds = max(one.seconds, 1.0, *(lead.ends for lead in one.leads), *(s.ended or s.at or 0.0 for s in one.struck))
    scale = Scale(min(seconds, one.seconds + 8.0))
    top = 4.0
    parts = [*_silences(one.silences, scale, top, ORDERS), *_curve(one.asked, one.taken, 1.0, scale, top)]
    top += ORDERS + GAP
    leading, top = _leads(one.leads, [(term.at, term.epoch) for term in one.terms], scale, top)
    faults, top = _faults(one.struck, scale, top)
    axis = _axis(scale, top, 5.0 if scale.seconds <= 90 else 10.0)
    return _svg([*parts, *leading, *faults, *axis], top + 20.0, f"round {one.number}")


def of_run(record: Record) -> str:
    """The whole run on one line."""
    begin = datetime.fromisoformat(record.run.began)
    starts = [(datetime.fromisoformat(one.began) - begin).total_seconds() for one in record.rounds]
    ends = [start + one.seconds for start, one in zip(starts, record.rounds, strict=True)]
    scale = Scale(max([record.seconds, *ends, 1.0]))
    top = 4.0
    moved = list(zip(starts, record.rounds, strict=True))
    silences = [(start + begins, start + ends) for start, one in moved for begins, ends in one.silences]
    wide = scale.seconds / ALL_BINS
    asked, taken = (_binned(((s, getattr(one, name)) for s, one in moved), wide) for name in ("asked", "taken"))
    parts = [*_silences(silences, scale, top, ORDERS), *_curve(asked, taken, wide, scale, top)]
    top += ORDERS + GAP
    leads = [Lead(lead.replica, s + lead.begins, s + lead.ends) for s, one in moved for lead in one.leads]
    leading, top = _leads(leads, [], scale, top)
    marks, top = _marks([(s, struck) for s, one in moved for struck in one.struck], scale, top)
    verdicts, top = _verdicts(moved, scale, top)
    axis = _axis(scale, top, _tick(scale.seconds))
    return _svg([*parts, *leading, *marks, *verdicts, *axis], top + 20.0, "the whole run")


def _binned(series: Iterable[tuple[float, Sequence[int]]], wide: float) -> list[float]:
    """Orders a second in each of ALL_BINS, from counts of single seconds."""
    bins = [0.0] * (ALL_BINS + 1)
    for start, counts in series:
        for second, count in enumerate(counts):
            place = min(ALL_BINS, max(0, int((start + second) / wide)))
            bins[place] += count / max(wide, 1.0)
    return bins


# ---- lanes


def _curve(asked: Sequence[float], taken: Sequence[float], wide: float, scale: Scale, top: float) -> Iterator[str]:
    """Orders a second: those asked for as a line, those that the broker took as an area."""
    most = max([*asked, *taken, 1.0])
    bottom = top + ORDERS

    def steps(values: Sequence[float]) -> Iterator[str]:
        for number, value in enumerate(values):
            y = bottom - ORDERS * value / most
            yield f"{scale.x(number * wide):.1f},{y:.1f} {scale.x((number + 1) * wide):.1f},{y:.1f}"

    if taken:
        end = scale.x(len(taken) * wide)
        yield f'<polygon class="taken" points="{LEFT:.1f},{bottom:.1f} {" ".join(steps(taken))} {end:.1f},{bottom:.1f}"/>'
    if asked:
        yield f'<polyline class="asked" points="{" ".join(steps(asked))}"/>'
    yield _name("orders/s", top + 10)
    yield f'<text class="small" x="{LEFT - 8:.0f}" y="{top + 24:.1f}" text-anchor="end">most {most:.0f}</text>'
    yield f'<line class="base" x1="{LEFT}" x2="{WIDTH}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>'


def _silences(silences: Sequence[tuple[float, float]], scale: Scale, top: float, height: float) -> Iterator[str]:
    for begins, ends in silences:
        title = f"no order at the broker for {ms((ends - begins) * 1000)}, from {begins:.1f} s on"
        yield _rect("silence", scale, begins, ends, top, height, title)


def _leads(
    leads: Sequence[Lead], epochs: Sequence[tuple[float, int]], scale: Scale, top: float
) -> tuple[list[str], float]:
    parts = []
    for replica in ("a", "b"):
        parts.append(_name(f"{replica} leads", top + 11))
        parts.append(f'<rect class="lane" x="{LEFT}" y="{top}" width="{WIDTH - LEFT}" height="{LANE}"/>')
        for lead in leads:
            if lead.replica == replica:
                title = f"{replica} led from {lead.begins:.1f} to {lead.ends:.1f} s"
                parts.append(_rect(f"lead {replica}", scale, lead.begins, lead.ends, top, LANE, title))
        top += LANE + 2
    last = -100.0
    for at, epoch in epochs:
        x = scale.x(at)
        parts.append(
            f'<line class="epoch" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 2 * LANE - 4:.1f}" y2="{top + 2:.1f}"/>'
        )
        if x - last > 52:  # the names must not lie on each other
            parts.append(f'<text class="small" x="{x + 3:.1f}" y="{top + 8:.1f}">epoch {epoch}</text>')
            last = x
    return parts, top + (GAP + 6 if epochs else GAP)


def _faults(struck: Sequence[Struck], scale: Scale, top: float) -> tuple[list[str], float]:
    """A bar for each fault that took effect, with its name beside it, in as few lanes as it takes."""
    parts, lanes = [_name("faults", top + 11)], list[float]()
    for one in sorted((one for one in struck if one.at is not None), key=lambda one: one.at or 0.0):
        begins = one.at or 0.0
        left, right = scale.x(begins), max(scale.x(one.ended or begins), scale.x(begins) + 4)
        wide = len(one.name) * LETTER + 6
        inside = right - left > wide
        before = not inside and right + wide > WIDTH
        first, last = (left - wide, right) if before else (left, right if inside else right + wide)
        lane = next((number for number, free in enumerate(lanes) if free <= first), len(lanes))
        lanes[lane:] = [last + 4] if lane == len(lanes) else [last + 4, *lanes[lane + 1 :]]
        y = top + lane * (LANE + 2)
        css = f"fault k-{one.kind}" + ("" if one.came is Came.BIT else " quiet")
        parts.append(_bar(css, left, right, y, LANE - 2, title_of(one)))
        x, anchor = (left - 4, "end") if before else (left + 4 if inside else right + 4, "start")
        shade = "inside" if inside and one.came is Came.BIT else "label"
        parts.append(
            f'<text class="{shade}" x="{x:.1f}" y="{y + 10:.1f}" text-anchor="{anchor}">{escape(one.name)}</text>'
        )
    return parts, top + max(1, len(lanes)) * (LANE + 2) + 4


def _marks(struck: Sequence[tuple[float, Struck]], scale: Scale, top: float) -> tuple[list[str], float]:
    """A lane for each kind of fault with a stroke for each that took effect."""
    parts = []
    for kind in sorted({one.kind for _, one in struck}):
        parts.append(_name(kind, top + 9))
        parts.append(f'<rect class="lane" x="{LEFT}" y="{top}" width="{WIDTH - LEFT}" height="{LANE - 4}"/>')
        for start, one in struck:
            if one.kind == kind and one.at is not None:
                left = scale.x(start + one.at)
                right = max(left + 2, scale.x(start + (one.ended or one.at)))
                css = f"fault k-{kind}" + ("" if one.came is Came.BIT else " quiet")
                parts.append(_bar(css, left, right, top, LANE - 4, title_of(one)))
        top += LANE - 2
    return parts, top + 4


def _verdicts(moved: Sequence[tuple[float, Round]], scale: Scale, top: float) -> tuple[list[str], float]:
    parts = [_name("verdict", top + 10)]
    for start, one in moved:
        title = f"round {one.number} is {'fine' if one.ok else 'bad'}"
        box = _rect(f"verdict {'good' if one.ok else 'bad'}", scale, start, start + one.seconds, top, LANE - 2, title)
        parts.append(f'<a href="#round-{one.number}">{box}</a>')
    return parts, top + LANE + 2


def _axis(scale: Scale, top: float, every: float) -> Iterator[str]:
    for number in range(int(scale.seconds / every) + 1):
        x = scale.x(number * every)
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{top:.1f}"/>'
        anchor = "end" if x > WIDTH - 16 else "middle"
        yield f'<text class="small" x="{x:.1f}" y="{top + 13:.1f}" text-anchor="{anchor}">{clock(number * every)}</text>'


def _tick(seconds: float) -> float:
    return next((every for every in (10, 30, 60, 120, 300, 600, 900) if seconds / every <= 18), 1800.0)


# ---- elements


def title_of(one: Struck) -> str:
    """What a reader sees who points at a fault."""
    said = [one.words, one.evidence, f"{one.asked} orders were asked for within a second of it"]
    if one.came is Came.QUIET:
        said.append("too few to count")
    elif one.silence_ms is not None:
        said.append(f"then at most {ms(one.silence_ms)} without an order at the broker")
    return "; ".join(filter(None, said))


def _name(text: str, y: float) -> str:
    return f'<text class="name" x="{LEFT - 8:.0f}" y="{y:.1f}" text-anchor="end">{escape(text)}</text>'


def _rect(css: str, scale: Scale, begins: float, ends: float, top: float, height: float, title: str) -> str:
    return _bar(css, scale.x(begins), scale.x(ends), top, height, title)


def _bar(css: str, left: float, right: float, top: float, height: float, title: str) -> str:
    size = f'x="{left:.1f}" y="{top:.1f}" width="{max(1.0, right - left):.1f}" height="{height:.1f}"'
    return f'<rect class="{css}" {size}><title>{escape(title)}</title></rect>'


def _svg(parts: Iterable[str], height: float, about: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(about)}">'
    return f"{head}{''.join(parts)}</svg>"
