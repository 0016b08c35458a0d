"""The commands that look at a running pair: status, orders, positions, history, breaks.

Each asks both replicas, prints a table (or the API's JSON), and returns 0 for fine, 1 for not fine.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ha import cli_views as views
from ha.cli_grid import Grid
from ha.pair_client import Answer, PairClient

FINAL = frozenset({"FILLED", "CANCELLED", "REJECTED", "EXPIRED"})
_PAGE = 500


@dataclass(frozen=True)
class Screen:
    """Where things are printed: ruled tables on a terminal, plain lines when piped (`ruled` is false)."""

    console: Console
    errors: Console
    ruled: bool

    @classmethod
    def standard(cls) -> Screen:
        """stdout and stderr."""
        plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False}
        return cls(Console(**plain), Console(stderr=True, soft_wrap=True, **plain), sys.stdout.isatty())

    def show(self, *parts: Grid | str) -> None:
        """Tables and sentences, one below the other."""
        if self.ruled:
            self.console.print(drawn(parts))
            return
        for part in parts:
            for line in [part] if isinstance(part, str) else part.lines():
                print(line, file=self.console.file)
        self.console.file.flush()

    def json(self, body: Any) -> None:
        """`body` as JSON."""
        print(json.dumps(body, indent=2), file=self.console.file)

    def say(self, sentence: str) -> None:
        """A sentence beside the table, so that it does not stand in what is piped on."""
        self.errors.print(sentence, style="yellow")


def drawn(parts: Sequence[Grid | str]) -> Group:
    """The same for rich."""
    return Group(*(Text(part, style=_style(part)) if isinstance(part, str) else part.table() for part in parts))


def _style(sentence: str) -> str:
    return "bold yellow" if sentence.startswith(views.WISHES) else ""


def status(client: PairClient, screen: Screen, as_json: bool, watch: float | None, times: int | None) -> int:
    """The pair's state; with `watch`, again every so many seconds (`times` looks, None: until interrupted)."""
    if watch is None:
        body, shown = _look(client)
        if as_json:
            screen.json(body)
        else:
            screen.show(*shown)
        return 0 if body["fine"] else 1
    return _watch(client, screen, as_json, watch, times)


def _watch(client: PairClient, screen: Screen, as_json: bool, every: float, times: int | None) -> int:
    live = Live(console=screen.console, auto_refresh=False) if screen.ruled and not as_json else None
    fine, looks = False, 0
    with live or nullcontext():
        try:
            while looks != times:
                if looks:
                    time.sleep(every)
                body, shown = _look(client)
                fine, looks = bool(body["fine"]), looks + 1
                if live:
                    live.update(drawn(shown), refresh=True)
                elif as_json:
                    print(json.dumps(body), file=screen.console.file, flush=True)
                else:
                    screen.show(*shown)
        except KeyboardInterrupt:
            pass  # the way to end a watch; the last look decides the exit code
    return 0 if fine else 1


def _look(client: PairClient) -> tuple[dict[str, Any], list[Grid | str]]:
    best, _ = client.best("/api/v1/cluster")
    cluster: dict[str, Any] | None = best.body if best else None
    answers = with_the_other(client, cluster, client.each("/health"))
    wrong = views.faults(answers)
    body = {
        "fine": not wrong,
        "faults": wrong,
        "cluster": cluster,
        "replicas": [{"url": a.url, "status": a.status, "reason": a.reason or None, "health": a.body} for a in answers],
    }
    return body, [views.headline(cluster, answers), views.replicas(answers), *views.wishes(cluster, answers), *wrong]


def with_the_other(client: PairClient, cluster: Mapping[str, Any] | None, answers: list[Answer]) -> list[Answer]:
    """Who names one replica sees the other one too: the first knows where it is."""
    if len(client.urls) != 1 or cluster is None or answers[0].status is None:
        return answers
    asked = answers[0].body.get("name") if isinstance(answers[0].body, dict) else None
    others = [r for r in cluster.get("replicas") or [] if isinstance(r, dict) and r.get("name") != asked]
    urls = [str(r["url"]) for r in others if str(r.get("url", "")).startswith(("http://", "https://"))]
    return answers + [client.one(url.rstrip("/"), "/health") for url in urls]


def orders(
    client: PairClient, screen: Screen, as_json: bool, *, filters: Mapping[str, Any], limit: int, live: bool
) -> int:
    """The newest `limit` orders that match `filters`, oldest first; with `live` only those that can still change."""
    found: dict[
        str, dict[str, Any]
    ] = {}  # an order that changes while the pages are read comes twice; the later counts
    after = filters.get("after")
    with screen.errors.status("reading orders"):
        while True:
            page = _ask(client, screen, "/api/v1/orders", {**filters, "after": after, "limit": _PAGE})
            if page is None:
                return 1
            found |= {str(row.get("id")): row for row in page["orders"]}
            following = page.get("next")
            if following is None or following == after:
                break
            after = following
    rows = [row for row in found.values() if not live or row.get("state") not in FINAL]
    rows.sort(key=lambda row: str(row.get("created_at")))
    newest = rows[-limit:]
    if as_json:
        screen.json({"orders": newest, "next": None})
        return 0
    screen.show(views.orders(newest, datetime.now(UTC)))
    if len(rows) > len(newest):
        screen.say(f"{len(rows)} orders match, the newest {len(newest)} are shown (--limit)")
    return 0


def positions(client: PairClient, screen: Screen, as_json: bool) -> int:
    """Positions here and at the broker; 1 if one is known to differ."""
    page = _ask(client, screen, "/api/v1/positions", {})
    if page is None:
        return 1
    _print(screen, as_json, page, views.positions(page["positions"]))
    return 1 if any(views.difference(row) not in ("-", "unknown") for row in page["positions"]) else 0


def history(client: PairClient, screen: Screen, as_json: bool, limit: int) -> int:
    """The newest `limit` terms with the time of each phase."""
    page = _ask(client, screen, "/api/v1/history", {})
    if page is None:
        return 1
    page = {**page, "history": page["history"][:limit]}
    if screen.ruled and not as_json:
        screen.show("Newest first, phases in milliseconds; what reconciliation repaired and held.", "")
    _print(screen, as_json, page, views.history(page["history"], datetime.now(UTC)))
    return 0


def breaks(client: PairClient, screen: Screen, as_json: bool, resolved_too: bool) -> int:
    """Open breaks, with `resolved_too` all of them; 1 if one is open."""
    page = _ask(client, screen, "/api/v1/breaks", {})
    if page is None:
        return 1
    still_open = [row for row in page["breaks"] if row.get("resolved_at") is None]
    page = {**page, "breaks": page["breaks"] if resolved_too else still_open}
    _print(screen, as_json, page, views.breaks(page["breaks"], datetime.now(UTC)))
    return 1 if still_open else 0


def _print(screen: Screen, as_json: bool, page: Any, table: Grid) -> None:
    if as_json:
        screen.json(page)
    else:
        screen.show(table)


def _ask(client: PairClient, screen: Screen, path: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """The best body for `path`, or None after saying why there is none. `path` ends in the name of the list in it."""
    best, answers = client.best(path, parameters)
    name = path.rsplit("/", 1)[-1]
    if best is not None and isinstance(best.body.get(name), list):
        if not best.leads:
            _say_from_whom(screen, best, answers)
        return dict(best.body)
    for answer in answers:
        screen.say(f"{answer.url}: {answer.why()}" if not answer.ok else f"{answer.url}: its answer has no {name!r}")
    return None


def _say_from_whom(screen: Screen, best: Answer, answers: list[Answer]) -> None:
    """A standby's book may be behind: the reader is told that the leader did not answer."""
    silent = "; ".join(f"{a.url}: {a.why()}" for a in answers if not a.ok)
    seq = best.headers.get("adapter-seq", "unknown")
    screen.say(f"from {best.url}, not the leader, at seq {seq}" + (f" ({silent})" if silent else ""))
