"""Names that both ledgers share: derived, stable for ever, and never taken for somebody else's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.reference import Reference, cluster_tag, order_id

names = st.text(st.characters(blacklist_characters="\x1f", blacklist_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.rule(19)
def test_derivation_never_changes_because_references_live_at_the_broker() -> None:
    assert order_id("desk1", "local", "s1-000001") == "PMZXTALRCJW7NWDR"
    assert cluster_tag("desk1") == "ET5Q"


@pytest.mark.rule(19)
@given(names, names, names)
def test_id_is_16_characters_that_a_reference_can_carry(cluster: str, subject: str, key: str) -> None:
    made = order_id(cluster, subject, key)
    assert re.fullmatch("[A-Z2-7]{16}", made)
    assert made == order_id(cluster, subject, key)
    assert Reference.parse(str(Reference(cluster_tag(cluster), 3, made))) == Reference(cluster_tag(cluster), 3, made)


@pytest.mark.rule(37)
@given(st.tuples(names, names, names), st.tuples(names, names, names))
def test_another_cluster_subject_or_key_is_another_id(a: tuple[str, str, str], b: tuple[str, str, str]) -> None:
    assert (order_id(*a) == order_id(*b)) == (a == b)


def test_subject_and_key_do_not_run_into_each_other() -> None:
    assert order_id("c", "ab", "c") != order_id("c", "a", "bc")


@given(names)
def test_tag_is_4_characters(cluster: str) -> None:
    assert re.fullmatch("[A-Z2-7]{4}", cluster_tag(cluster))


@pytest.mark.parametrize(
    "text",
    ["", "pa", "pa.ABCD.1", "pa.ABCD.x.AAAAAAAAAAAAAAAA", "pb.ABCD.1.AAAAAAAAAAAAAAAA", "pa.ABCD.1.SHORT", "manual order",
     "pa.ABCD.-1.AAAAAAAAAAAAAAAA", "pa.ABCD.1.AAAAAAAAAAAAAAAA.x"],
)  # fmt: skip
def test_what_a_person_or_another_tool_wrote_is_not_a_reference(text: str) -> None:
    assert Reference.parse(text) is None


@given(st.text(alphabet="pa.ABCD1279xyz -", max_size=30))
def test_any_plain_text_parses_or_does_not(text: str) -> None:
    parsed = Reference.parse(text)
    assert parsed is None or Reference.parse(str(parsed)) == parsed


def test_digits_of_other_scripts_are_no_epoch() -> None:
    assert Reference.parse("pa.ABCD.²." + "A" * 16) is None
