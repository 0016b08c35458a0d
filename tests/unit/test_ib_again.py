"""What the gateway says word for word again is the same fact without decoding; what it says otherwise is decoded."""

from __future__ import annotations

import pytest

from engine import ib_again
from engine.ib_again import Again


class Gateway:
    """Messages through `Again`: which of them were decoded, and what was taken."""

    def __init__(self) -> None:
        self.decoded: list[str] = []
        self.taken: list[str] = []
        self.again: Again[str] = Again(self._decode, self.taken.append)

    def _decode(self, fields: list[str]) -> None:
        self.decoded.append("|".join(fields))
        if "bad" not in fields:  # ib_async logs what it cannot decode, and calls nothing
            self.again.decoded("|".join(fields))

    def says(self, *messages: str) -> None:
        """Each message, its fields divided by bars."""
        for message in messages:
            self.again(message.split("|"))


def test_each_message_is_taken_and_each_wording_decoded_once() -> None:
    gateway = Gateway()
    gateway.says("5|1|Submitted", "5|2|Submitted", "5|1|Submitted")
    gateway.again.list_begins()
    gateway.says("5|1|Submitted", "5|2|Submitted", "5|1|Filled")
    assert gateway.taken == [
        "5|1|Submitted", "5|2|Submitted", "5|1|Submitted", "5|1|Submitted", "5|2|Submitted", "5|1|Filled",
    ]  # fmt: skip
    assert gateway.decoded == ["5|1|Submitted", "5|2|Submitted", "5|1|Filled"]


def test_fields_that_join_to_the_same_text_are_not_the_same_message() -> None:
    gateway = Gateway()
    gateway.says("5|ab|c", "5|a|bc", "5||abc")
    assert gateway.taken == ["5|ab|c", "5|a|bc", "5||abc"]


@pytest.mark.rule(23)
def test_what_could_not_be_decoded_is_decoded_and_lost_again_and_never_taken_for_another() -> None:
    gateway = Gateway()
    gateway.says("5|1|Submitted", "5|2|bad", "5|2|bad", "5|1|Submitted")
    assert gateway.taken == ["5|1|Submitted"] * 2
    assert gateway.decoded.count("5|2|bad") == 2  # each time a line in the log, which counts as a loss


def test_what_a_whole_list_did_not_repeat_is_forgotten() -> None:
    gateway = Gateway()
    gateway.says("5|1|Submitted", "5|2|Submitted")
    gateway.again.list_begins()
    gateway.says("5|2|Submitted")
    gateway.again.list_begins()
    gateway.says("5|1|Submitted", "5|2|Submitted")
    assert gateway.decoded == ["5|1|Submitted", "5|2|Submitted", "5|1|Submitted"]


def test_no_more_is_remembered_than_two_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ib_again, "MOST", 3)
    gateway = Gateway()
    gateway.says(*(f"5|{number}" for number in range(100)))
    assert len(gateway.again._facts) + len(gateway.again._before) <= 6
    assert len(gateway.taken) == 100
