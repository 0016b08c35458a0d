"""What a run leaves, and what is said of it: from a small recorded history to record, text, HTML and track record."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ha.demo.history import History, fold
from tests.chaos import measure, report, report_html, report_text, track
from tests.chaos.check import Bite, Overlap, Probe
from tests.chaos.figures import Spread, by_name, clock, ms, totals, verdict
from tests.chaos.record import (
    BadRecord,
    Both,
    Came,
    Lead,
    Record,
    Round,
    Run,
    Struck,
    Term,
    end_line,
    line,
    read,
    round_line,
    run_line,
)

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def asked_at(*moments: float) -> History:
    entries = [
        {"op": "place", "kind": "invoke", "attempt": 1, "client_order_id": f"k{number}", "at": at(moment).isoformat()}
        for number, moment in enumerate(moments)
    ]
    return fold(entries)


def every(seconds: float, begin: float, end: float) -> list[float]:
    return [begin + number * seconds for number in range(int((end - begin) / seconds))]


# ---- from what was seen to the record


def test_orders_are_counted_in_the_second_in_which_they_came() -> None:
    assert measure.by_second([at(0), at(0.9), at(2.1)], START) == [2, 0, 1]
    assert measure.by_second([], START) == []


def test_a_silence_is_a_time_without_an_order_from_the_first_moment_to_the_last() -> None:
    taken = [at(moment) for moment in (1.0, 1.2, 3.0, 3.1)]
    assert measure.silences(taken, START, at(5)) == [(0.0, 1.0), (1.2, 3.0), (3.1, 5.0)]
    assert measure.silences([], START, at(4)) == [(0.0, 4.0)]


def test_silence_of_a_fault_is_the_longest_one_that_ends_after_it_and_begins_before_the_next() -> None:
    taken = [at(moment) for moment in (0.0, 1.0, 1.9, 4.9, 5.0, 11.0)]
    assert measure.silence_of(at(2.0), at(5.0), taken) == 3000.0
    assert measure.silence_of(at(5.0), None, taken) == 6000.0
    assert measure.silence_of(at(11.5), None, taken) is None


def test_a_fault_counts_when_twenty_orders_were_asked_for_within_a_second_of_it() -> None:
    history = asked_at(*every(0.04, 0.0, 4.0))
    bites = [
        ("kill", "process", Bite("killed", at(2.0), "pid 1", "a")),
        ("cut", "network", Bite("cut", at(4.6), "", None)),
    ]
    loud, quiet = measure.strikes(bites, history, [at(1.9), at(2.5), at(4.5), at(4.7)], START)
    assert (loud.came, loud.asked, loud.silence_ms, loud.replica) == (Came.BIT, 51, 2000.0, "a")
    assert (quiet.came, quiet.silence_ms) == (Came.QUIET, 200.0)
    assert quiet.asked < 20


def test_faults_that_overlap_are_known_to() -> None:
    bites = [
        ("etcd", "etcd", Bite("away", at(1), "", None, at(5))),
        ("kill", "process", Bite("killed", at(3), "", "a")),
        ("late", "process", Bite("killed", at(6), "", "a")),
    ]
    found = measure.strikes(bites, asked_at(), [], START)
    assert [one.beside for one in found] == [True, True, False]


def test_a_replica_leads_from_its_first_answer_to_the_last_before_another_one() -> None:
    said = [("a", 0.0, 200), ("a", 0.1, 200), ("a", 0.2, None), ("a", 0.3, 503), ("b", 0.1, 503), ("b", 0.4, 200)]
    probes = [Probe(name, at(moment), at(moment + 0.01), status) for name, moment, status in said]
    assert measure.leads(probes, START) == [Lead("a", 0.0, 0.11), Lead("b", 0.4, 0.41)]


def test_only_the_epochs_of_this_round_are_its_terms() -> None:
    rows = [
        {"epoch": epoch, "kind": "failover", "to": "b", "at": at(epoch).isoformat(), "total_ms": 300.0, "reason": "r"}
        for epoch in (6, 5, 4)
    ]
    assert [term.epoch for term in measure.terms(rows, 4, START)] == [5, 6]
    assert measure.overlaps([Overlap(at(3), 1.0, 9.0)], START) == [Both(3.0, 1.0, 9.0)]


# ---- the record

FAULTS = [
    Struck(
        name="leader-killed", kind="process", came=Came.BIT, words="kill -9 leader", evidence="a (pid 7) <ended>", at=2.0,
        replica="a", asked=25, silence_ms=480.0,
    ),
    Struck(
        name="etcd-away", kind="etcd", came=Came.BIT, words="etcd away for 3 s", at=6.0, ended=9.0, asked=25,
        silence_ms=120.0, beside=True,
    ),
    Struck(name="leader-killed", kind="process", came=Came.QUIET, words="kill -9 leader", at=19.5, asked=3, silence_ms=None),
    Struck(name="gateway-killed", kind="broker", came=Came.MISSED, words="it was not there"),
]  # fmt: skip
FINE = Round(
    number=1, began=at(10).isoformat(), seconds=20.0, took=25.0, cluster=1, struck=FAULTS,
    leads=[Lead("a", 0.0, 2.0), Lead("b", 2.4, 20.0)],
    terms=[Term(epoch=2, kind="failover", replica="b", at=2.3, total_ms=310.0, reason="the lease of a ended")],
    asked=[25] * 20, accepted=[25] * 20, taken=[25, 25, 8, *[25] * 17], silences=[(2.0, 2.6)],
    both=[Both(2.3, 0.0, 40.0)],
    counts={"asked": 500, "answered": 500, "taken": 483, "unsent": 17, "in_doubt": 1, "called_dead": 2},
    replay="python -m tests.chaos --replay x --round 1",
)  # fmt: skip
BAD = replace(
    FINE, number=2, began=at(40).isoformat(), counts={"asked": 480, "answered": 480, "taken": 481, "duplicated": 1},
    problems=["1 duplicated: a second order at the broker under one id", "sent <twice> & more"], kept="out/round-2",
    replay="python -m tests.chaos --replay x --round 2",
)  # fmt: skip
RUN = Run(seed=7, minutes=1.0, form="loopback", rate=25.0, began=START.isoformat(), version="abc1234")


def lines(*rounds: Round, ended: bool = True) -> str:
    plan = line("plan", {"number": 1, "seed": 3, "strokes": []})
    return (
        run_line(RUN) + plan + "".join(map(round_line, rounds)) + (end_line("its time was over", 65.0) if ended else "")
    )


def test_a_record_comes_back_from_its_lines_as_it_was() -> None:
    record = read(lines(FINE, BAD))
    assert record == Record(RUN, [FINE, BAD], "its time was over", 65.0)
    assert [one.number for one in record.bad] == [2]


def test_a_run_that_was_killed_has_the_rounds_that_were_over() -> None:
    record = read(lines(FINE, ended=False) + round_line(BAD)[:300])
    assert [one.number for one in record.rounds] == [1]
    assert record.seconds == FINE.took
    assert "its own end is not recorded" in report_text.text(record)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "what was run"), ("{}\n", "line 1"), ("[]\n", "line 1 is no object"), ("x\n", "line 1 is no JSON"),
        (run_line(RUN) + '{"op": "round"}\n', "line 2"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_record_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(BadRecord, match=why):
        read(text)


# ---- the figures


def test_figures_of_a_fault_are_those_that_took_effect_under_load() -> None:
    rows = {row.name: row for row in by_name([*FAULTS, replace(FAULTS[0], silence_ms=900.0)])}
    row = rows["leader-killed"]
    assert (row.injected, row.bit, row.quiet, row.missed) == (3, 2, 1, 0)
    assert (row.silence.count, row.silence.most) == (2, 900.0)
    assert (rows["gateway-killed"].bit, rows["gateway-killed"].missed) == (0, 1)


def test_a_spread_takes_the_nearest_value_that_was_seen() -> None:
    assert Spread.of(range(11)) == Spread(11, 5, 9, 10)
    assert Spread.of([]) == Spread(0, None, None, None)


def test_a_run_is_fine_only_when_rounds_were_judged_faults_counted_and_no_round_is_bad() -> None:
    assert verdict(read(lines(FINE)))[0]
    assert verdict(read(lines(FINE, BAD))) == (False, "1 of 2 rounds are bad: 1 sent twice")
    assert verdict(read(lines())) == (False, "no round was judged")
    assert not verdict(read(lines(replace(FINE, struck=FAULTS[2:]))))[0]


def test_totals_are_sums_over_rounds_and_runs() -> None:
    record = read(lines(FINE, BAD))
    found = totals([record, record])
    assert (found.rounds, found.bad, found.faults[Came.BIT], found.two_at_once) == (4, 2, 8, 4)
    assert (found.counts["asked"], found.terms["failover"], found.both_ms) == (1960, 4, 40.0)
    assert found.wrong == {"sent twice": 2}


def test_times_read_as_a_person_writes_them() -> None:
    assert [ms(value) for value in (None, 0.0, 340.4, 4200.0)] == ["–", "0 ms", "340 ms", "4.2 s"]
    assert [clock(value) for value in (7, 247, 7447)] == ["0:07", "4:07", "2:04:07"]


# ---- what a person reads


def test_text_says_the_verdict_first_and_how_to_play_a_bad_round_again() -> None:
    said = report_text.text(read(lines(FINE, BAD)))
    assert said.startswith("NOT FINE: 1 of 2 rounds are bad: 1 sent twice\nseed 7, loopback form, 25 orders a second")
    assert "round 2 is bad:\n  1 duplicated" in said
    assert "again: python -m tests.chaos --replay x --round 2\n  what is left of it: out/round-2" in said
    assert "4 took effect under load (2 of them beside another one); apart: 2 in a quiet moment, 2 did not" in said
    assert report_text.text(read(lines(FINE))).startswith("FINE: ")


def test_html_is_one_file_that_needs_nothing_else_and_is_well_formed() -> None:
    page = report_html.html(read(lines(FINE, BAD)))
    root = ET.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>|<style>.*?</style>", "", page, flags=re.DOTALL))
    assert not re.search(r"(src|href)=[\"'](?!#)|url\(|@import|<script", page)
    words = "".join(root.itertext())
    assert (
        words.index("Not fine")
        < words.index("The whole run")
        < words.index("Bad rounds")
        < words.index("Round by round")
    )
    assert "sent <twice> & more" in words
    assert "python -m tests.chaos --replay x --round 2" in words


def test_timeline_shows_who_led_what_struck_and_the_silence() -> None:
    page = report_html.html(read(lines(FINE)))
    svg = ET.fromstring(page[page.rindex("<svg") : page.rindex("</svg>") + 6])
    shapes = [(shape.get("class"), "".join(shape.itertext())) for shape in svg.iter("rect")]
    assert ("lead a", "a led from 0.0 to 2.0 s") in shapes
    assert ("silence", "no order at the broker for 600 ms, from 2.0 s on") in shapes
    assert [css for css, _ in shapes if css and css.startswith("fault")] == [
        "fault k-process", "fault k-etcd", "fault k-process quiet",
    ]  # fmt: skip
    names = [text.text for text in svg.iter("text")]
    assert {"epoch 2", "leader-killed", "etcd-away", "orders/s", "a leads", "b leads"} <= set(names)
    assert "gateway-killed" not in names, "it did not take effect"


def test_reports_are_made_again_from_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text(lines(FINE))
    assert report.main([str(path)]) == 0
    assert (tmp_path / "report.txt").read_text() == capsys.readouterr().out
    assert (tmp_path / "report.html").read_text() == report_html.html(read(lines(FINE)))
    path.write_text(lines(BAD))
    assert report.main([str(path)]) == 1
    path.write_text("x\n")
    assert report.main([str(path)]) == 2
    assert "line 1 is no JSON" in capsys.readouterr().err


# ---- the track record


def test_track_record_sums_runs_and_leaves_what_was_written_by_hand() -> None:
    page = f"# Head\n\n{track.BEGIN}\nold\n{track.END}\n\n## Bugs\n\n| mine |\n"
    record = read(lines(FINE, BAD))
    made = track.written(page, [record, record])
    assert made.startswith(f"# Head\n\n{track.BEGIN}\n8 random faults under load in 2:10")
    assert made.endswith(f"{track.END}\n\n## Bugs\n\n| mine |\n")
    assert "| `leader-killed` | process | 8 | 4 | 4 | 0 | 480 ms | 480 ms | 480 ms |" in made
    assert "| process | 4 |  | 4 |" in made
    assert track.written(made, [record, record]) == made
    with pytest.raises(track.NoMarks):
        track.written("# Head\n", [record])
