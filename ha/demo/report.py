"""The verdict for a reader: tables on a terminal, the same without colour or lines in a pipe, or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ha.demo.judge import Verdict
from ha.demo.silence import Kill, Silence

WIDTH = 100
MOST_CASES = 8  # of one kind; the JSON has them all
PHASES = ("detect", "acquire", "claim", "fence", "connect", "reconcile", "first_order", "total")
HEADINGS = {"reconcile": "recon-\ncile", "first_order": "first\norder"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What there is to tell. `history` as the API gives it; `notes` are sentences that make the run not fine."""

    verdict: Verdict
    history: Sequence[Mapping[str, Any]]
    seed: int
    rate: float
    seconds: float
    took_seconds: float
    directory: str
    traffic: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether the run is fine: a good verdict, and nothing else went wrong."""
        return self.verdict.ok and not self.notes


@dataclass(frozen=True, slots=True)
class Failover:
    """One kill with its silence, and the ledger's own row about the failover where there is one."""

    kill: Kill
    silence: Silence
    row: Mapping[str, Any] | None


def failovers(report: Report) -> list[Failover]:
    """The kills in their order, each with the first row of a failover between it and the next kill."""
    rows = sorted((row for row in report.history if row.get("kind") == "failover"), key=_at)
    silences = report.verdict.silences
    ends = [*(silence.kill.at for silence in silences[1:]), datetime.max.replace(tzinfo=UTC)]
    return [
        Failover(silence.kill, silence, next((row for row in rows if silence.kill.at <= _at(row) < end), None))
        for silence, end in zip(silences, ends, strict=True)
    ]


def as_json(report: Report) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "ok": report.ok,
        "seed": report.seed,
        "rate": report.rate,
        "seconds": report.seconds,
        "took_ms": round(report.took_seconds * 1000),
        "dir": report.directory,
        "notes": list(report.notes),
        "verdict": report.verdict.as_json(),
        "failovers": [
            {
                "killed": failover.kill.name,
                "at": failover.kill.at.isoformat(timespec="microseconds"),
                "silence_broker_ms": failover.silence.broker_ms,
                "silence_accepted_ms": failover.silence.accepted_ms,
                "history": failover.row,
            }
            for failover in failovers(report)
        ],
        "history": list(report.history),
        "traffic": dict(report.traffic),
    }


def console_for(stderr: bool = False) -> Console:
    """A console of at most 100 columns; 100 exactly where there is no terminal."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def render(report: Report, console: Console) -> None:
    """Prints the report."""
    verdict = report.verdict
    console.print()
    console.print(_rule(f"{verdict.asked} orders at {report.rate:g}/s, {len(verdict.silences)} leaders killed with -9"))
    console.print(_orders(report))
    if verdict.silences:
        console.print(_rule("failovers, in milliseconds"))
        console.print(_failovers(report))
        _reasons(report, console)
    console.print(_rule("positions"))
    console.print(_positions(verdict))
    _print_cases(verdict, console)
    for note in report.notes:
        console.print(Text(f"! {note}", style="bold red"))
    console.print()
    console.print(_last_line(report))


def _orders(report: Report) -> Table:
    verdict, traffic = report.verdict, report.traffic
    table = _table("", "", "")
    table.show_header = False
    table.columns[1].justify = "right"
    waits = ""
    if traffic.get("p50_ms") is not None:
        waits = f"p50 {traffic['p50_ms']} ms, p99 {traffic['p99_ms']} ms, longest {traffic['longest_ms']} ms"
    aside = f"refused {verdict.refused}, not accepted {verdict.not_accepted}, unknown {verdict.unknown}"
    epochs = ", ".join(f"epoch {epoch}: {count}" for epoch, count in verdict.epochs.items())
    unsent = ", ".join(f"{count} {state}" for state, count in verdict.unsent.items())
    breaks = "each with its break, listed below" if verdict.in_doubt else ""
    booked = f"{verdict.executions_booked} booked, {verdict.executions_made} made"
    for words, count, more, bad in (
        ("orders answered 2xx", verdict.answered, waits, False),
        ("  not answered 2xx", verdict.asked - verdict.answered, aside, False),
        ("orders the broker took", verdict.taken, epochs, False),
        ("  answered, never sent", sum(verdict.unsent.values()), unsent, False),
        ("lost", len(verdict.lost), "", True),
        ("duplicated", len(verdict.duplicated), "", True),
        ("never asked for", len(verdict.phantom), "", True),
        ("told wrongly", len(verdict.contradicted), "", True),
        ("sent while held by a break", len(verdict.sent_while_held), "", True),
        ("in doubt", len(verdict.in_doubt), breaks, False),
        ("executions not booked once", len(verdict.unbooked), booked, True),
        ("positions that differ", len(verdict.positions_differ), f"of {len(verdict.positions)} symbols", True),
    ):
        style = ("bold red" if count else "bold green") if bad else ""
        table.add_row(words, Text(str(count), style=style), Text(more, style="dim"))
    return table


def _failovers(report: Report) -> Table:
    phases = tuple(HEADINGS.get(phase, phase) for phase in PHASES)
    table = _table("killed", "epoch", "silence\nbroker", "silence\naccept", *phases, padding=(0, 1))
    for column in table.columns[1:]:
        column.justify = "right"
    for failover in failovers(report):
        row = failover.row or {}
        table.add_row(
            failover.kill.name,
            str(row.get("epoch", "-")),
            Text(_ms(failover.silence.broker_ms), style="bold"),
            Text(_ms(failover.silence.accepted_ms), style="bold"),
            *(_ms(row.get(f"{phase}_ms")) for phase in PHASES),
        )
    return table


def _reasons(report: Report, console: Console) -> None:
    for failover in failovers(report):
        row = failover.row
        words = f"epoch {row['epoch']}: {row.get('reason')}" if row else f"{failover.kill.name}: not in the history"
        console.print(Text(f"  {words}", style="dim"), soft_wrap=True)


def _positions(verdict: Verdict) -> Table:
    table = _table("symbol", "sum of executions", "broker", "ledger", "")
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in verdict.positions:
        breaks = f", break {', '.join(row.break_ids)}" if row.break_ids else ""
        words = Text("agree") if row.agree else Text(f"DIFFER{breaks}", style="bold red")
        table.add_row(row.symbol, _number(row.journal), _number(row.broker), _number(row.ledger), words)
    return table


def _print_cases(verdict: Verdict, console: Console) -> None:
    """Every defect and every doubt by name, the first few of each kind."""
    findings = {
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "never asked for": verdict.phantom,
        "told wrongly": verdict.contradicted,
        "sent while held by a break": verdict.sent_while_held,
    }
    cases = {
        heading: [f"{case.client_order_id or '-'} ({case.order_id or '-'}): {case.why}" for case in found]
        for heading, found in findings.items()
    }
    cases["twins of the broker's making"] = [
        f"{twin.order_id}: permIds {', '.join(map(str, twin.perm_ids))}, "
        f"{'one cancelled' if twin.cancelled else 'NOT CANCELLED'}, {'reported' if twin.reported else 'NOT REPORTED'}"
        for twin in verdict.twins
    ]
    cases["executions"] = [f"{case.exec_id} {case.symbol}: {case.why}" for case in verdict.unbooked]
    cases["in doubt"] = [
        f"{case.client_order_id or '-'} ({case.order_id}) {case.symbol}: "
        f"{'break ' + ', '.join(case.break_ids) if case.break_ids else 'NO OPEN BREAK'}; at the broker: {case.at_broker}"
        for case in verdict.in_doubt
    ]
    cases["epochs that fell at the broker"] = [
        f"{case.order_ref}: epoch {case.epoch} after epoch {case.after}" for case in verdict.epoch_falls
    ]
    for heading, lines in cases.items():
        if lines:
            console.print(_rule(heading))
        for line in lines[:MOST_CASES]:
            console.print(Text(f"  {line}"), soft_wrap=True)
        if len(lines) > MOST_CASES:
            console.print(f"  and {len(lines) - MOST_CASES} more")


def _last_line(report: Report) -> Text:
    run = f"seed {report.seed}, {report.took_seconds:.0f} s in all"
    if report.ok:
        return Text(f"FINE: no order lost, none doubled, every execution booked once ({run})", style="bold green")
    problems = "; ".join([*report.verdict.problems(), *report.notes])
    return Text(f"NOT FINE: {problems} ({run}; everything is kept in {report.directory})", style="bold red")


def _table(*headings: str, padding: tuple[int, int] = (0, 2)) -> Table:
    # no lines: twelve columns of figures fill the width, and a pipe should get nothing that is not a word
    table = Table(box=None, padding=padding, show_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading)
    return table


def _rule(words: str) -> Text:
    return Text(f"\n{words}", style="bold")


def _ms(value: Any) -> str:
    return "-" if value is None else f"{float(value):.0f}"


def _number(value: Decimal) -> str:
    return format(value.normalize(), "f")


def _at(row: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(row["at"])).astimezone(UTC)
