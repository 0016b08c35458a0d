"""The codec: what is written is what is read, at every server version, and nothing else is accepted."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibsim.codec import read, write
from ibsim.layout import LayoutError, Part, Repeat, When, layout
from ibsim.messages import ANSWERS, REQUESTS, decode, encode_request
from ibsim.order_layout import COMPLETED_ORDER, OPEN_ORDER, PLACE_ORDER, PLACE_ORDER_170
from ibsim.wire import (
    MAX_FIELD,
    MAX_FRAME,
    Frames,
    WireError,
    fields_of,
    frame,
    integer,
    message,
    negotiate,
    number,
    plain,
)

versions = st.integers(157, 178)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def names(parts: tuple[Part, ...]) -> set[str]:
    """Every plain field of a layout, of its conditional parts too."""
    found: set[str] = set()
    for part in parts:
        if isinstance(part, str):
            found |= {token.partition("@")[0].partition("=")[0] for token in part.split()}
        elif isinstance(part, When):
            found |= names(part.parts)
    return found


def repeats(parts: tuple[Part, ...]) -> dict[str, Repeat]:
    """Every repeated group of a layout."""
    found: dict[str, Repeat] = {}
    for part in parts:
        if isinstance(part, Repeat):
            found[part.name] = part
        elif isinstance(part, When):
            found |= repeats(part.parts)
    return found


interesting = texts | st.sampled_from(
    ["", "0", "1", "None", "BAG", "PEG BENCH", "PEG BEST", "Infinite", "IBKRATS", "0.5"]
)


@st.composite
def values_of(draw: st.DrawFn, parts: tuple[Part, ...]) -> dict[str, object]:
    """Some of a layout's fields with any text, and groups of their own layouts."""
    values: dict[str, object] = draw(st.dictionaries(st.sampled_from(sorted(names(parts))), interesting))
    for name, group in repeats(parts).items():
        rows = []
        for _ in range(draw(st.integers(0, 2))):
            if group.chosen is None:
                rows.append(draw(values_of(group.parts)))
            else:
                kind = draw(st.sampled_from(sorted(group.chosen)))
                rows.append({**draw(values_of(group.chosen[kind])), "kind": kind})
        values[name] = rows
    return values


LAYOUTS = [PLACE_ORDER, PLACE_ORDER_170, OPEN_ORDER, COMPLETED_ORDER]
LAYOUTS += [one for _, one in [*REQUESTS.values(), *ANSWERS.values()] if one not in LAYOUTS and names(one.parts)]


@given(st.data(), versions)
def test_every_message_reads_back_as_it_was_written(data: st.DataObject, version: int):
    described = data.draw(st.sampled_from(LAYOUTS))
    values = data.draw(values_of(described.parts))
    fields = write(described, version, values)
    back = read(described, version, fields)
    assert write(described, version, back) == fields
    for name, text in back.items():
        if isinstance(text, str) and name in values:
            assert text == values[name]


@given(st.data(), versions)
def test_a_request_goes_over_the_wire_and_back(data: st.DataObject, version: int):
    _, (name, described) = data.draw(st.sampled_from(sorted(REQUESTS.items(), key=lambda item: item[0])))
    values = data.draw(values_of(described.parts))
    (payload,) = Frames().feed(encode_request(name, version, values))
    request = decode(payload, version)
    assert request.name == name
    assert encode_request(name, version, request.fields) == frame(payload)


@given(st.lists(st.lists(texts, min_size=1, max_size=5), max_size=5), st.integers(1, 7))
def test_frames_are_cut_the_same_however_the_bytes_arrive(messages: list[list[str]], size: int):
    data = b"".join(message(fields) for fields in messages)
    frames = Frames()
    payloads = [p for at in range(0, len(data), size) for p in frames.feed(data[at : at + size])]
    assert [fields_of(payload) for payload in payloads] == messages


@given(st.binary(max_size=300), versions)
def test_any_bytes_are_a_request_or_a_wire_error(payload: bytes, version: int):
    with contextlib.suppress(WireError):
        assert decode(payload, version).name


def test_a_frame_above_the_limit_is_refused_before_its_bytes_arrive():
    with pytest.raises(WireError, match=str(MAX_FRAME)):
        list(Frames().feed((MAX_FRAME + 1).to_bytes(4, "big")))


@pytest.mark.parametrize(
    ("offer", "version"),
    [(b"v157..178", 178), (b"v100..160", 160), (b"v170", 170), (b"v178..200", 178), (b"v157..178 +PACEAPI", 178)],
)
def test_the_highest_common_version_is_chosen(offer: bytes, version: int):
    assert negotiate(offer) == version


@pytest.mark.parametrize("offer", [b"v100..156", b"v179..200", b"", b"157..178", b"v9..x"])
def test_no_common_version_is_an_error(offer: bytes):
    with pytest.raises(WireError):
        negotiate(offer)


def test_fields_missing_and_left_over_are_errors():
    described = layout("a b@170")
    assert read(described, 170, ["1", "2"]) == {"a": "1", "b": "2"}
    with pytest.raises(LayoutError, match="b is missing"):
        read(described, 170, ["1"])
    with pytest.raises(LayoutError, match="left over"):
        read(described, 169, ["1", "2"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("190.50", "190.50"),
        ("1.000000000000000000000", "1"),
        ("1e3", "1000"),
        ("-0", "0"),
        ("0e-999999999", "0"),
        ("1.7976931348623157E308", None),
        ("1.7976931348623157e+308", None),
        ("170141183460469231731687303715884105727", None),
        ("999999999999999", "999999999999999"),
        ("0.000000000001", "0.000000000001"),
        ("190.10000000000002", "190.10000000000002"),
        ("1.3877787807814457e-17", "0.000000000000000013877787807814457"),
    ],
)
def test_a_number_is_read_without_needless_digits_and_the_unset_ones_as_none(text: str, value: str | None):
    read_as = number(text)
    assert (read_as is None) == (value is None)
    assert value is None or (read_as == Decimal(value) and len(plain(read_as)) <= 60)


@pytest.mark.parametrize(
    "text", ["x", "NaN", "sNaN", "Infinity", "1e-41", "1e-999999999", "1e15", "-1e400", "9" * 41, "1" + "0" * 500]
)
def test_a_number_too_large_too_fine_or_too_long_is_none(text: str):
    with pytest.raises(WireError):
        number(text)


@pytest.mark.parametrize("text", ["x", "1.5", "9" * 20, "9" * 5000, "9223372036854775808"])
def test_an_integer_has_64_bits(text: str):
    with pytest.raises(WireError):
        integer(text)


def test_a_field_of_a_served_request_is_bounded_and_of_another_one_not():
    long = "x" * (MAX_FIELD + 1)
    with pytest.raises(WireError, match="4096"):
        decode(message(["6", "2", "1", long])[4:], 178)
    assert decode(message(["19", "1", "1", long])[4:], 178).name == "replaceFA"
