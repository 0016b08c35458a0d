"""What an operator asks of a running pair: hand over, pause, halt, resolve a break. 0 when it is done, 1 with the reason else.

Each follows the leader: both replicas are asked who leads, and the wish goes to that one, once. Pause and halt go to the other one
where nobody leads: they lie in the database, for whoever leads next (R29).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ha import cli_format as form
from ha import cli_views as views
from ha.cli_grid import Grid
from ha.cli_read import Screen, with_the_other
from ha.pair_client import Answer, PairClient

LEADER_WITHIN = 5.0  # seconds to look for a leader: a takeover may be under way
_ANSWER_WITHIN = 15.0  # seconds for the answer; a break is resolved on a fresh snapshot of the broker
_LOOK_EVERY = 0.02
_PHASES_WITHIN = 2.0  # they are written just after the gate has opened
_CLUSTER = "/api/v1/cluster"


def wish(client: PairClient, screen: Screen, as_json: bool, verb: str, body: Mapping[str, Any]) -> int:
    """`pause`, `resume`, `halt` or `unhalt`."""
    with _progress(screen, f"{verb}: asking the leader"):
        answer = _told(_both(client), f"{_CLUSTER}/{verb}", body, needs_leader=False)
    return _report(screen, as_json, answer, lambda said: _wished(verb, said))


def resolve(client: PairClient, screen: Screen, as_json: bool, break_id: str, body: Mapping[str, Any]) -> int:
    """An operator's word on a break."""
    with _progress(screen, f"resolving {form.text(break_id)}"):
        answer = _told(_both(client), f"/api/v1/breaks/{quote(break_id, safe='')}", body, needs_leader=True)
    word = form.text(body["resolution"])
    return _report(screen, as_json, answer, lambda said: [f"resolved: {form.text(said.get('id'))}, {word}"])


def reconcile(client: PairClient, screen: Screen, as_json: bool, dry_run: bool, reason: str = "") -> int:
    """Compare ledger and broker now; 0 when they agree (afterwards, unless `dry_run`), 1 else."""
    with _progress(screen, "comparing the ledger with the broker"):
        wish = {"dry_run": dry_run} | ({"reason": reason} if reason else {})
        answer = _told(_both(client), f"{_CLUSTER}/reconcile", wish, needs_leader=True)
    said = _body(answer)
    rows = [row for row in said.get("plan") or [] if isinstance(row, dict)]
    words = [views.plan(rows) if rows else "no difference", _compared(said)]
    if (code := _report(screen, as_json, answer, lambda _: words)) != 0:
        return code
    return 0 if said.get("verdict") in ("agrees", "agreed") and not said.get("missing") else 1


def _compared(said: Mapping[str, Any]) -> str:
    """One line below the table."""
    missing = said.get("missing") or []
    lacks = f"; did not come: {', '.join(map(form.text, missing))}" if missing else ""
    if said.get("dry_run"):
        return f"dry run: nothing was written{lacks}"
    why = f" ({form.text(said['why'])})" if said.get("why") else ""
    figures = f"{form.text(said.get('repaired'))} repaired, {form.text(said.get('held'))} held"
    rounds, took = form.text(said.get("rounds")), form.milliseconds(said.get("elapsed_ms"))
    return f"{form.text(said.get('verdict'))}{why}: {figures}, {rounds} rounds, {took} ms{lacks}"


def switchover(client: PairClient, screen: Screen, as_json: bool, body: Mapping[str, Any], within: float) -> int:
    """Hand over, wait until the other replica leads, and say what it cost."""
    with _progress(screen, "switchover: asking the leader"):
        client = _both(client)
        seen = _Watched(client)
        answer = _told(client, f"{_CLUSTER}/switchover", body, needs_leader=True)
    if answer.status != 202 or not isinstance(answer.body, dict):
        return _report(screen, as_json, answer, lambda _: [])
    old = str(answer.body.get("from"))
    with _progress(screen, f"{old} hands over to {form.text(answer.body.get('to'))}"):
        new = seen.until_another_leads(old, within)
    if new is None:
        screen.say(f"{old} hands over, but after {within:g} s no other replica leads: look at `adapter status`")
        return 1
    row = _phases(client, new)
    found = {
        "from": old,
        "to": new.name,
        "epoch": new.epoch,
        "silence_ms": seen.silence_ms(old, new.name),
        "history": row,
    }
    if as_json:
        screen.json(found)
        return 0
    silence = found["silence_ms"]
    screen.show(
        f"{new.name} leads, epoch {new.epoch}; no gate was open for {form.duration(silence)} at most, seen from here"
    )
    if row is not None:
        screen.show(views.history([row], datetime.now(UTC)))
    return 0


# ---- who is asked


def _told(client: PairClient, path: str, body: Mapping[str, Any], *, needs_leader: bool) -> Answer:
    """The answer of the leader, or the reasons of all why there is none. Asked again only after an answer that did nothing."""
    until = time.monotonic() + LEADER_WITHIN
    while True:
        healths = client.each("/health")
        target = _leader(healths) or (None if needs_leader else _anybody(healths))
        answer = client.post(target.url, path, body, _ANSWER_WITHIN) if target is not None else _nobody(healths)
        leads_no_more = answer.status == 307 or (answer.status == 503 and _kind(answer) == "not-leader")
        worth_waiting = leads_no_more or (target is None and _anybody(healths) is not None)
        if not worth_waiting or time.monotonic() > until:
            return answer
        time.sleep(0.2)


def _both(client: PairClient) -> PairClient:
    """Who names one replica means the pair: the first knows where the other one is."""
    best, _ = client.best(_CLUSTER)
    answers = with_the_other(client, best.body if best else None, client.each("/health"))
    return client.also([answer.url for answer in answers])


def _leader(healths: list[Answer]) -> Answer | None:
    leaders = [a for a in healths if _body(a).get("role") == "leader"]
    return max(leaders, key=lambda a: int(_body(a).get("epoch") or 0), default=None)


def _anybody(healths: list[Answer]) -> Answer | None:
    return next((a for a in healths if "role" in _body(a)), None)


def _nobody(healths: list[Answer]) -> Answer:
    reasons = [f"{a.url} is {_body(a)['role']}" if "role" in _body(a) else f"{a.url}: {a.why()}" for a in healths]
    return Answer("", reason=f"no replica leads ({'; '.join(reasons)})")


def _body(answer: Answer) -> Mapping[str, Any]:
    return answer.body if isinstance(answer.body, dict) else {}


def _kind(answer: Answer) -> str:
    return str(_body(answer).get("type", "")).removeprefix("urn:adapter:")


# ---- what is said


def _report(
    screen: Screen, as_json: bool, answer: Answer, words: Callable[[Mapping[str, Any]], Sequence[Grid | str]]
) -> int:
    good = answer.status is not None and 200 <= answer.status < 300
    if as_json and answer.status is not None:
        screen.json({"url": answer.url, "status": answer.status, "body": answer.body})
    elif good:
        screen.show(*words(_body(answer)))
    if good:
        return 0
    if not answer.url:
        screen.say(answer.reason)
    elif answer.status is None:
        screen.say(f"{answer.url}: {answer.why()}; whether it was done is not known, look at `adapter status`")
    else:
        screen.say(f"{answer.url}: {answer.why()}")
    return 1


def _wished(verb: str, said: Mapping[str, Any]) -> list[str]:
    seen = f"; {form.text(said['seen_by'])} has seen it" if said.get("seen_by") else ""
    lines = {
        "pause": f"{views.PAUSED}: no automatic failover until `adapter resume`",
        "resume": "the pause is over",
        "halt": f"{views.HALTED}: no new orders until `adapter unhalt`, cancels pass{seen or '; nobody leads who could see it'}",
        "unhalt": "new orders are allowed again",
    }
    out = said.get("still_out")
    more = [f"still out: {', '.join(map(form.text, out))}"] if isinstance(out, list) and out else []
    return [lines[verb], *more]


@contextmanager
def _progress(screen: Screen, text: str) -> Iterator[None]:
    with screen.errors.status(text):
        yield


# ---- a hand-over, seen from outside


@dataclass(frozen=True, slots=True)
class _Leader:
    url: str
    name: str
    epoch: int


class _Watched:
    """Looks at both gates again and again. Moments are those of this process's monotonic clock."""

    def __init__(self, client: PairClient) -> None:
        """The first look, before anything is asked."""
        self._client = client
        self._open_at: dict[
            str, tuple[float, float]
        ] = {}  # replica -> first and last moment at which its gate was open
        self._look()

    def until_another_leads(self, old: str, within: float) -> _Leader | None:
        """The replica that leads with its gate open instead of `old`; None when the time is up."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            for leader in self._look():
                if leader.name != old:
                    return leader
            time.sleep(_LOOK_EVERY)
        return None

    def silence_ms(self, old: str, new: str) -> float | None:
        """From the last moment at which the old gate may have been open to the first at which the new one was."""
        if old not in self._open_at or new not in self._open_at:
            return None
        return round(max(0.0, self._open_at[new][0] - self._open_at[old][1]) * 1000, 1)

    def _look(self) -> list[_Leader]:
        """Who leads with its gate open."""
        asked = time.monotonic()
        found = []
        for answer in self._client.each("/health"):
            body = _body(answer)
            gate = body.get("gate")
            if body.get("role") == "leader" and isinstance(gate, dict) and gate.get("open"):
                name = str(body.get("name"))
                first, _ = self._open_at.get(name, (time.monotonic(), 0.0))
                self._open_at[name] = (first, asked)  # it was open when it was asked; when it shut is not known
                found.append(_Leader(answer.url, name, int(body.get("epoch") or 0)))
        return found


def _phases(client: PairClient, leader: _Leader) -> dict[str, Any] | None:
    """The history's row of this epoch, once its phases are written; None when it cannot be had."""
    until = time.monotonic() + _PHASES_WITHIN
    while True:
        answer = client.one(leader.url, "/api/v1/history", {"limit": 5})
        rows = _body(answer).get("history")
        row = next((r for r in rows or [] if isinstance(r, dict) and r.get("epoch") == leader.epoch), None)
        if (row is not None and row.get("total_ms") is not None) or time.monotonic() > until:
            return dict(row) if row is not None else None
        time.sleep(0.05)
