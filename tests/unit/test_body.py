"""What is taken in of a request's body: text that can be kept as it is, of the type and the length that the description says."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from engine.auth import Access
from engine.errors import Problem
from engine.http import Request
from ha.body import body_of
from ha.operate import Operate, OperateRules
from ha.resolve import Resolve
from ha.role import State
from tests.unit.led_factory import Led
from tests.unit.test_resolve import SlowCommitter, doubtful

LONE = "stop \ud83d now"
COMMANDS = ("halt", "unhalt", "pause", "resume", "reconcile", "switchover")


def request(body: object) -> Request:
    """A request with this JSON body; what UTF-8 cannot say stands in it as an escape."""
    return Request("POST", "/", {}, {}, {"id": "b1"}, json.dumps(body).encode(), "127.0.0.1", "c")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (LONE, ["body"]), ({"reason": LONE}, ["reason"]), ({"\udfff": 1}, ["\\udfff"]), ([LONE], ["[0]"]),
        ({"orders": [{"symbol": "A"}, {"symbol": LONE}]}, ["orders[1].symbol"]), ({"a": {"b": LONE}, "c": LONE}, ["a.b", "c"]),
    ],
)  # fmt: skip
def test_text_that_no_utf_8_can_say_is_422_and_names_its_field(body: object, fields: list[str]) -> None:
    with pytest.raises(Problem) as refused:
        request(body).json()
    assert (refused.value.status, [e.field for e in refused.value.errors]) == (422, fields)
    assert json.dumps([e.field for e in refused.value.errors], ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["\U0001f6d1 stop", "\\ud83d", "\u20ac \x07"])
def test_text_that_utf_8_can_say_is_taken_however_it_is_escaped(text: str) -> None:
    assert request({"reason": text}).json() == {"reason": text}


def test_nul_is_refused_by_field() -> None:
    with pytest.raises(Problem) as refused:
        body_of(request({"reason": "a\x00"}), {"reason"})
    assert [e.field for e in refused.value.errors] == ["reason"]


class Told:
    """Where commands are written down."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []

    async def give(self, command: str, _asker: Any, reason: str, *_: Any, **__: Any) -> None:
        self.given.append((command, reason))


class Room:
    """A leader's operator, who is asked with a body."""

    def __init__(self) -> None:
        led = self.led = Led(SlowCommitter)
        self.oid = doubtful(led, "a", "b1")
        led.next_session()
        node: Any = SimpleNamespace(
            book=led.ledger.book, permit=led.permit, desk=led.desk, takeover=led.takeover, tender=led.tender,
            state=State.LEADING, me=SimpleNamespace(name="a"),
        )  # fmt: skip
        self.told: Any = Told()
        nothing: Any = None
        self.operate = Operate(node, nothing, Access(()), self.told, OperateRules())
        self.resolve = Resolve(node, Access(()), self.told, nothing)

    async def ask(self, command: str, body: object) -> Any:
        """What it answers."""
        room = self.resolve if command in ("reconcile", "resolve") else self.operate
        return await getattr(room, command)(request(body))

    async def refusal(self, command: str, body: object) -> list[tuple[int, str, str]]:
        """Status, field and sentence of each error; nothing was done."""
        with pytest.raises(Problem) as refused:
            await self.ask(command, body)
        assert self.told.given == []
        assert "b1" in self.led.ledger.book.open_breaks
        return [(refused.value.status, e.field, e.message) for e in refused.value.errors]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("reason", [LONE, 7, True, {"any": "thing"}, ["x"], "x" * 501], ids=lambda r: repr(r)[:12])
async def test_reason_that_is_no_text_or_too_long_is_refused_and_nothing_is_done(command: str, reason: object) -> None:
    [(status, field, sentence)] = await Room().refusal(command, {"reason": reason})
    assert (status, field) == (422, "reason")
    assert "500" in sentence or reason == LONE


@pytest.mark.parametrize(
    "reason", [None, "", " \n", LONE, 17, {"any": ["thing"]}, "x" * 501], ids=lambda r: repr(r)[:12]
)
async def test_break_is_resolved_with_a_reason_or_not_at_all(reason: object) -> None:
    [(status, field, _)] = await Room().refusal("resolve", {"resolution": "dead", "reason": reason})
    assert (status, field) == (422, "reason")
    assert [e[:2] for e in await Room().refusal("resolve", {"resolution": "dead"})] == [(422, "reason")]


async def test_reason_of_500_characters_is_kept_whole() -> None:
    room = Room()
    assert (await room.ask("resolve", {"resolution": "dead", "reason": "é" * 500})).status == 200
    assert room.led.ledger.log[-1].payload["reason"] == "é" * 500
    assert (await room.ask("pause", {"reason": "é" * 500})).body["reason"] == "é" * 500
    assert room.told.given == [("pause", "é" * 500)]


@pytest.mark.parametrize("body", [{}, {"reason": None}, {"reason": ""}])
@pytest.mark.parametrize("command", ["pause", "resume"])
async def test_other_commands_need_no_reason(command: str, body: dict[str, object]) -> None:
    room = Room()
    assert (await room.ask(command, body)).status == 202
    assert room.told.given == [(command, "")]


@pytest.mark.parametrize("wish", ["yes", 1, None, "true"])
async def test_halt_that_does_not_say_whether_to_cancel_is_422_and_halts_nothing(wish: object) -> None:
    errors = await Room().refusal("halt", {"reason": "x", "cancel_open": wish})
    assert [error[:2] for error in errors] == [(422, "cancel_open")]
