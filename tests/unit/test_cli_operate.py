"""What operators ask by the command line: it reaches the leader, once, and what came of it is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ha import cli_operate
from tests.unit.cli_replica import Replica, both, call, health, two_replicas

CLUSTER = "/api/v1/cluster"
ROW = {
    "epoch": 6, "kind": "switchover", "reason": "new kernel", "from": "a", "to": "b", "at": "2026-03-04T11:59:01.123456Z",
    "detect_ms": None, "acquire_ms": 12, "claim_ms": 14.4, "fence_ms": 0, "connect_ms": 85, "reconcile_ms": 40,
    "first_order_ms": None, "total_ms": 151, "repaired": 0, "held": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Replica, Replica]]:
    with two_replicas() as made:
        yield made


@pytest.fixture
def pair(servers: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Replica, Replica]:
    """a leads, b stands by; nothing of the developer's shell is seen."""
    for name in ("ADAPTER_URL", "ADAPTER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    rows = [{"name": r.name, "url": r.url} for r in servers]
    for r in servers:
        r.requests, r.asked, r.after = [], [], []
        r.answers = {CLUSTER: (200, {"leader": "a", "epoch": 5, "replicas": rows})}
    leads(servers, "a", 5)
    return servers


def leads(pair: tuple[Replica, Replica], name: str | None, epoch: int) -> None:
    """From now on this one leads; None: nobody does."""
    for replica in pair:
        role = "leader" if replica.name == name else "standby"
        replica.role = role
        replica.answers["/health"] = (200 if role == "leader" else 429, health(replica.name, role, epoch=epoch))


def refusal(status: int, kind: str, detail: str) -> tuple[int, dict[str, Any]]:
    return status, {"type": f"urn:adapter:{kind}", "title": "Not done", "status": status, "detail": detail}


WISHES = [
    (["pause", "--reason", "new kernel"], "pause", {"reason": "new kernel"}, "PAUSED: no automatic failover until"),
    (["resume"], "resume", {"reason": ""}, "the pause is over"),
    (["halt", "--cancel-open"], "halt", {"reason": "", "cancel_open": True}, "HALTED: no new orders until"),
    (["unhalt"], "unhalt", {"reason": ""}, "new orders are allowed again"),
]


@pytest.mark.parametrize(("arguments", "verb", "body", "said"), WISHES, ids=lambda v: str(v)[:20])
@pytest.mark.parametrize("leader", ["a", "b"])
def test_a_wish_goes_to_the_leader_alone_and_what_it_means_is_said(
    pair: tuple[Replica, Replica], arguments: list[str], verb: str, body: dict[str, Any], said: str, leader: str
) -> None:
    leads(pair, leader, 5)
    asked, other = pair if leader == "a" else pair[::-1]
    asked.answers[f"POST {CLUSTER}/{verb}"] = (202, {"seen_by": leader, "still_out": []})
    result = call(*arguments, *both(pair), "--token", "secret")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(said)
    assert asked.asked == [("POST", f"{CLUSTER}/{verb}", body)]
    assert other.asked == []
    assert asked.requests[-1].headers["Authorization"] == "Bearer secret"


def test_who_names_one_replica_reaches_the_leader_all_the_same(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers[f"POST {CLUSTER}/pause"] = (202, {"paused": True})
    assert call("pause", "--url", pair[1].url).exit_code == 0
    assert len(pair[0].asked) == 1


@pytest.mark.rule(29)
def test_where_nobody_leads_pause_and_halt_are_written_down_by_the_other_one(pair: tuple[Replica, Replica]) -> None:
    leads(pair, None, 5)
    pair[0].answers[f"POST {CLUSTER}/halt"] = (202, {"halted": True})
    result = call("halt", *both(pair))
    assert result.exit_code == 0
    assert "nobody leads who could see it" in result.stdout
    assert len(pair[0].asked) == 1


def test_what_is_still_out_at_a_halt_is_named(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers[f"POST {CLUSTER}/halt"] = (202, {"seen_by": "a", "still_out": ["AAAA", "BBBB"]})
    lines = call("halt", *both(pair)).stdout.splitlines()
    assert lines[0].endswith("; a has seen it")
    assert lines[1] == "still out: AAAA, BBBB"


@pytest.mark.parametrize(
    ("arguments", "path", "answer"),
    [
        (["switchover"], "/cluster/switchover", refusal(412, "not-safe-now", "2 orders are in doubt; resolve them first.")),
        (["switchover", "--to", "a"], "/cluster/switchover", refusal(409, "leads-already", "a leads already.")),
        (["pause"], "/cluster/pause", refusal(403, "forbidden", "This needs the role operator.")),
        (["halt"], "/cluster/halt", refusal(503, "database-away", "The wish could not be written down: gone")),
        (["breaks", "resolve", "b-1", "dead", "--reason", "x"], "/breaks/b-1", refusal(409, "changed-meanwhile", "WORKING.")),
    ],
    ids=lambda v: str(v)[:30],
)  # fmt: skip
def test_a_refusal_is_not_fine_and_its_reason_is_said(
    pair: tuple[Replica, Replica], arguments: list[str], path: str, answer: tuple[int, dict[str, Any]]
) -> None:
    pair[0].answers[f"POST /api/v1{path}"] = answer
    result = call(*arguments, *both(pair))
    assert result.exit_code == 1
    assert result.stderr.strip() == f"{pair[0].url}: {answer[0]}: {answer[1]['detail']}"
    assert result.stdout == ""
    assert len(pair[0].asked) == 1
    shown = json.loads(call(*arguments, *both(pair), "--json").stdout)
    assert (shown["status"], shown["url"], shown["body"]) == (answer[0], pair[0].url, answer[1])


def test_a_leader_that_changed_meanwhile_is_looked_for_again(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers[f"POST {CLUSTER}/pause"] = refusal(503, "not-leader", "This replica does not lead.")
    pair[0].after = [lambda: leads(pair, "b", 6)]
    pair[1].answers[f"POST {CLUSTER}/pause"] = (202, {"paused": True})
    assert call("pause", *both(pair)).exit_code == 0
    assert (len(pair[0].asked), len(pair[1].asked)) == (1, 1)


def test_of_two_that_call_themselves_leader_the_later_epoch_is_asked(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers["/health"] = (200, health("a", "leader", epoch=5))
    pair[1].answers["/health"] = (200, health("b", "leader", epoch=6))
    pair[1].answers[f"POST {CLUSTER}/pause"] = (202, {"paused": True})
    assert call("pause", *both(pair)).exit_code == 0
    assert pair[0].asked == []


def test_without_a_leader_a_hand_over_is_refused_with_what_each_replica_says(
    pair: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_operate, "LEADER_WITHIN", 0.3)
    leads(pair, None, 5)
    result = call("switchover", *both(pair))
    assert result.exit_code == 1
    assert result.stderr.startswith("no replica leads (")
    assert f"{pair[1].url} is standby" in result.stderr
    assert pair[0].asked == pair[1].asked == []


def test_dead_replicas_are_not_waited_for() -> None:
    result = call("pause", "--url", "http://127.0.0.1:9", "--url", "http://127.0.0.1:10")
    assert result.exit_code == 1
    assert result.stderr.count("connection refused") == 2


def test_an_answer_that_does_not_come_leaves_the_outcome_open(
    pair: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_operate, "_ANSWER_WITHIN", 0.3)
    pair[0].answers[f"POST {CLUSTER}/pause"] = (0, "hang")
    result = call("pause", *both(pair))
    assert result.exit_code == 1
    assert "nothing within 0.3 s; whether it was done is not known" in result.stderr
    assert len(pair[0].asked) == 1, "not asked twice"


def hands_over(pair: tuple[Replica, Replica], **row: Any) -> None:
    pair[0].answers[f"POST {CLUSTER}/switchover"] = (202, {"from": "a", "to": "b", "reason": "new kernel"})
    pair[0].after = [lambda: leads(pair, "b", 6)]
    pair[1].answers["/api/v1/history"] = (200, {"history": [ROW | row]})


def test_after_a_hand_over_silence_and_phases_are_shown(pair: tuple[Replica, Replica]) -> None:
    hands_over(pair)
    result = call("switchover", "--to", "b", "--force", "--reason", "new kernel", *both(pair))
    assert result.exit_code == 0, result.output
    assert pair[0].asked == [("POST", f"{CLUSTER}/switchover", {"to": "b", "force": True, "reason": "new kernel"})]
    first, columns, row = result.stdout.splitlines()
    assert first.startswith("b leads, epoch 6; no gate was open for ")
    assert columns.split()[:3] == ["Epoch", "UTC", "Who"]
    assert "a>b" in row
    assert "switchover: new kernel" in row


def test_a_hand_over_as_json_has_its_figures(pair: tuple[Replica, Replica]) -> None:
    hands_over(pair)
    shown = json.loads(call("switchover", *both(pair), "--json").stdout)
    assert (shown["from"], shown["to"], shown["epoch"]) == ("a", "b", 6)
    assert 0 <= shown["silence_ms"] < 5000
    assert shown["history"] == ROW
    assert pair[0].asked[0][2] == {"to": None, "force": False}


def test_phases_that_are_never_written_do_not_hide_the_success(
    pair: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_operate, "_PHASES_WITHIN", 0.1)
    hands_over(pair, epoch=5)
    result = call("switchover", *both(pair))
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1


def test_a_hand_over_that_leads_nowhere_is_not_fine(pair: tuple[Replica, Replica]) -> None:
    hands_over(pair)
    pair[0].after = [lambda: leads(pair, None, 5)]
    result = call("switchover", "--wait", "1", *both(pair))
    assert result.exit_code == 1
    assert "after 1 s no other replica leads: look at `adapter status`" in result.stderr


def test_the_old_leader_leading_again_is_no_hand_over(pair: tuple[Replica, Replica]) -> None:
    hands_over(pair)
    pair[0].after = [lambda: leads(pair, "a", 6)]
    assert call("switchover", "--wait", "1", *both(pair)).exit_code == 1


@pytest.mark.parametrize("before", [True, False])
def test_a_break_is_resolved_with_its_reason(pair: tuple[Replica, Replica], before: bool) -> None:
    pair[0].answers["POST /api/v1/breaks/in_doubt:x%2Fy"] = (200, {"id": "in_doubt:x/y", "resolution": "dead"})
    pair[0].answers["POST /api/v1/breaks/in_doubt:x/y"] = pair[0].answers["POST /api/v1/breaks/in_doubt:x%2Fy"]
    words = ["resolve", "in_doubt:x/y", "dead", "--reason", "asked IB"]
    result = call("breaks", *(both(pair) + words if before else words + both(pair)))
    assert result.exit_code == 0, result.output
    assert result.stdout == "resolved: in_doubt:x/y, dead\n"
    assert pair[0].asked[0][2] == {"resolution": "dead", "reason": "asked IB"}


def test_a_resolution_can_name_the_brokers_order(pair: tuple[Replica, Replica]) -> None:
    pair[0].answers["POST /api/v1/breaks/b-1"] = (200, {"id": "b-1"})
    assert call("breaks", "resolve", "b-1", "adopt", "--perm-id", "77", "--reason", "x", *both(pair)).exit_code == 0
    assert pair[0].asked[0][2]["perm_id"] == 77


@pytest.mark.parametrize("arguments", [["breaks", "resolve", "b-1", "dead"], ["breaks", "resolve"], ["pause", "now"]])
def test_wrong_usage_asks_nobody(pair: tuple[Replica, Replica], arguments: list[str]) -> None:
    assert call(*arguments, *both(pair)).exit_code == 2
    assert pair[0].asked == []


FOUND = {
    "row": "sending_absent", "verdict": "hold", "about": "ORDERAAAAAAAAAAA", "what": "Licensed for a session that is dead.",
    "ours": {"state": "SENDING"}, "broker": {"shown": "nothing"}, "writes": ["order_in_doubt", "break_opened"], "waits": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "body", "answer", "code", "last"),
    [
        (["--dry-run"], {"dry_run": True}, {"dry_run": True, "verdict": "agrees", "missing": [], "plan": []}, 0,
         "dry run: nothing was written"),
        (["--dry-run"], {"dry_run": True}, {"dry_run": True, "verdict": "would write", "missing": [], "plan": [FOUND]}, 1,
         "dry run: nothing was written"),
        (["--dry-run"], {"dry_run": True}, {"dry_run": True, "verdict": "agrees", "missing": ["link"], "plan": []}, 1,
         "dry run: nothing was written; did not come: link"),
        ([], {"dry_run": False}, {"dry_run": False, "verdict": "agreed", "why": "", "missing": [], "repaired": 1, "held": 0,
         "rounds": 2, "elapsed_ms": 12.3, "plan": [FOUND]}, 0, "agreed: 1 repaired, 0 held, 2 rounds, 12 ms"),
        ([], {"dry_run": False}, {"dry_run": False, "verdict": "parked", "why": "", "missing": [], "repaired": 0, "held": 1,
         "rounds": 3, "elapsed_ms": 1200.0, "plan": [FOUND]}, 1, "parked: 0 repaired, 1 held, 3 rounds, 1200 ms"),
    ],
)  # fmt: skip
def test_what_a_reconciliation_found_is_a_table_with_both_sides_and_its_end(
    pair: tuple[Replica, Replica], arguments: list[str], body: object, answer: dict[str, Any], code: int, last: str
) -> None:
    pair[0].answers[f"POST {CLUSTER}/reconcile"] = (200, answer)
    result = call("reconcile", *arguments, *both(pair))
    assert (result.exit_code, pair[0].asked) == (code, [("POST", f"{CLUSTER}/reconcile", body)])
    *table, end = result.stdout.splitlines()
    assert end == last
    if answer["plan"]:
        assert table[0].split() == ["Row", "Verdict", "About", "Ours", "Broker", "Writes"]
        assert all(
            word in table[1] for word in ("sending_absent", "hold", "state SENDING", "shown nothing", "order_in_doubt")
        )
    else:
        assert table == ["no difference"]


def test_a_reconciliation_as_json_and_one_that_was_refused(pair: tuple[Replica, Replica]) -> None:
    answer = {"dry_run": True, "verdict": "would write", "missing": [], "plan": [FOUND]}
    pair[0].answers[f"POST {CLUSTER}/reconcile"] = (200, answer)
    result = call("reconcile", "--dry-run", "--json", *both(pair))
    assert (result.exit_code, json.loads(result.stdout)["body"]) == (1, answer)
    pair[0].answers[f"POST {CLUSTER}/reconcile"] = refusal(503, "no-snapshot", "There is no broker session.")
    refused = call("reconcile", *both(pair))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "There is no broker session." in refused.stderr
    assert call("reconcile", "now", *both(pair)).exit_code == 2
