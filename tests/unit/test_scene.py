"""What a spectator of the demonstration is shown, second by second."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from rich.console import Console

from ha.demo.market import REACH, walk
from ha.demo.scene import Glimpse, Scene
from ha.demo.silence import Kill
from ha.demo.view import line, panel

START = datetime(2026, 1, 2, 10, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def health(state: str, epoch: int = 1, *, open_: bool = True, seq: int = 9, digest: str = "d") -> dict[str, Any]:
    role = "standby" if state == "STANDBY" else "leader"
    gate = {"open": open_ and role == "leader", "reasons": [] if open_ else ["reconciling"]}
    return {"role": role, "state": state, "epoch": epoch, "gate": gate, "tail": {"seq": seq, "digest": digest}}


def glimpse(state: str, epoch: int = 1, *, status: int = 200, **fields: Any) -> Glimpse:
    return Glimpse.read(status, health(state, epoch, **fields))


def took(number: int, seconds: float, session: int = 1) -> dict[str, Any]:
    order = {"kind": "order", "seq": number, "at": at(seconds).isoformat(), "session": session, "perm_id": number}
    return order | {"order_ref": f"pa.TAGA.1.{'A' * 16}", "symbol": "AAPL", "side": "BUY", "quantity": "1"}


def place(key: str, seconds: float, kind: str, url: str = "http://a") -> dict[str, Any]:
    entry = {"op": "place", "client_order_id": key, "at": at(seconds).isoformat(), "kind": kind, "url": url}
    return entry | ({"status": 201, "id": key} if kind == "ok" else {})


def sentences(scene: Scene) -> list[str]:
    return [sentence for _, sentence in scene.events]


def drawn(scene: Scene, seconds: float) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(panel(scene, at(seconds)))
    return out.getvalue()


@pytest.fixture
def scene() -> Scene:
    scene = Scene(names=("a", "b"))
    scene.see(at(0), "a", glimpse("LEADING"))
    scene.see(at(0), "b", glimpse("STANDBY", status=429))
    scene.events.clear()
    return scene


def test_the_leader_is_who_leads_with_an_open_gate_and_only_while_nobody_else_does(scene: Scene) -> None:
    assert scene.leader() == scene.paired() == "a"
    scene.see(at(1), "a", glimpse("LEADING", open_=False))
    assert scene.leader() is None
    scene.see(at(1), "a", glimpse("LEADING"))
    scene.see(at(1), "b", glimpse("LEADING", 2))
    assert scene.leader() is None


def test_a_leader_without_a_healthy_standby_is_no_pair(scene: Scene) -> None:
    for standby in (None, glimpse("STANDBY", status=503), glimpse("CLAIMING")):
        scene.see(at(1), "b", standby)
        assert scene.leader() == "a"
        assert scene.paired() is None
        assert "no leader with a healthy standby" in (scene.disagreement() or "")


def test_a_standby_that_is_not_healthy_says_why(scene: Scene) -> None:
    scene.see(at(1), "b", Glimpse.read(503, health("STANDBY") | {"reasons": ["it lags 5 s"]}))
    assert "b STANDBY and not healthy (it lags 5 s)" in (scene.disagreement() or "")


@pytest.mark.guarantee(8)
def test_books_agree_only_at_the_same_sequence_number_with_the_same_digest(scene: Scene) -> None:
    assert scene.disagreement() is None
    scene.see(at(1), "b", glimpse("STANDBY", status=429, seq=8))
    assert "not read as far" in (scene.disagreement() or "")
    scene.see(at(1), "b", glimpse("STANDBY", status=429, digest="e"))
    assert "differs" in (scene.disagreement() or "")


def test_a_change_of_a_replica_is_told_once(scene: Scene) -> None:
    scene.see(at(1), "a", None)
    scene.see(at(2), "a", None)
    scene.see(at(3), "b", glimpse("CLAIMING", 2))
    scene.see(at(4), "b", glimpse("LEADING", 2))
    assert sentences(scene) == [
        "a: LEADING (epoch 1) → no answer",
        "b: STANDBY → CLAIMING",
        "b: CLAIMING → LEADING (epoch 2)",
    ]


def test_a_health_answer_that_lacks_fields_is_read_as_nothing() -> None:
    read = Glimpse.read(503, {})
    assert (read.leads, read.healthy, read.epoch, read.seq) == (False, False, 0, None)


def test_silence_grows_while_orders_flow_and_is_told_when_it_ends(scene: Scene) -> None:
    scene.read_journal([took(1, 0.95)])
    scene.read_history([place("k1", 0.9, "invoke"), place("k1", 0.94, "ok")])
    assert scene.quiet_for(at(1.5)) is None
    scene.flowing = True
    scene.killed(Kill("a", "http://a", at(1.0)), "killed a")
    scene.settle_silences(at(1.5))
    assert scene.quiet_for(at(1.5)) == pytest.approx(0.55)
    assert "SILENT 0.6 s" in line(scene, at(1.55))
    assert "silence at the broker" in drawn(scene, 1.5)
    assert sentences(scene) == ["killed a"]

    scene.read_journal([took(2, 1.6, session=2)])
    scene.settle_silences(at(1.7))
    assert sentences(scene) == ["killed a"]  # nobody has accepted an order yet
    scene.read_history([place("k2", 1.3, "invoke", "http://b"), place("k2", 1.5, "ok", "http://b")])
    scene.settle_silences(at(1.7))
    scene.settle_silences(at(1.8))
    assert len(scene.events) == 2
    assert "silence 650 ms at the broker, 560 ms without an order accepted" in sentences(scene)[1]
    assert "SILENT" not in line(scene, at(1.7))
    assert "orders reach the broker" in drawn(scene, 1.7)


def test_counts_are_of_orders_and_not_of_attempts(scene: Scene) -> None:
    scene.read_history([place("k1", 0, "invoke"), place("k1", 1, "unknown"), place("k1", 1, "invoke")])
    assert (scene.asked, scene.answered, scene.waiting()) == (1, 0, 1)
    scene.read_history([place("k1", 2, "ok"), place("k1", 3, "ok"), place("k2", 3, "invoke")])
    assert (scene.asked, scene.answered, scene.waiting()) == (2, 1, 1)
    scene.read_journal([took(1, 1), took(2, 1) | {"order_ref": ""}, {"kind": "execution", "seq": 3}])
    assert (len(scene.taken), scene.executions) == (1, 1)


def test_the_panel_shows_both_replicas_and_why_a_gate_is_shut(scene: Scene) -> None:
    scene.see(at(1), "a", None)
    scene.see(at(1), "b", glimpse("RECONCILING", 2, open_=False))
    shown = drawn(scene, 1)
    assert "no answer" in shown
    assert "shut: reconciling" in shown
    assert "RECONCILING epoch 2 gate shut" in line(scene, at(1))


def test_prices_move_and_never_far_from_where_they_began() -> None:
    start = {"AAPL": Decimal(190), "MSFT": Decimal(415)}
    steps = list(islice(walk(start, random.Random(1)), 500))
    assert len({step["AAPL"] for step in steps}) > 50
    assert all(abs(step[name] / start[name] - 1) <= REACH + Decimal("0.0001") for step in steps for name in start)
    assert steps == list(islice(walk(start, random.Random(1)), 500))
