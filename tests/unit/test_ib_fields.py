"""What is written and read of IB's messages past ib_async's own way is what that way would write and read."""

from __future__ import annotations

import dataclasses
import inspect
import re
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from ib_async.client import Client
from ib_async.contract import ComboLeg, Contract, ContractDetails, TagValue
from ib_async.decoder import Decoder
from ib_async.order import Order, OrderState

from engine import ib_facts, ib_fields

VALUES: tuple[Any, ...] = (
    3, 0, 1, -1, ib_fields.UNSET_INTEGER, 1.0, 0.0, -0.5, 1e-7, ib_fields.UNSET_DOUBLE, float("inf"), float("-inf"), float("nan"),
    True, False, None, "", "AAPL", "ä\n", Decimal("1.10"), Decimal("1E+2"), [], [TagValue("a", "1"), TagValue("b", "2")],
    Contract(conId=7, symbol="AAPL", strike=1.5, exchange="SMART"), (1, 2), b"x",
)  # fmt: skip


def written(send: str, *values: object, **said: bool) -> str:
    client = Client(SimpleNamespace())  # type: ignore[no-untyped-call]
    messages: list[str] = []
    client.isConnected, client.sendMsg = lambda: True, messages.append  # type: ignore[method-assign, assignment]
    if send == "ours":
        ib_fields.hasten(client, Contract)
    client.send(*values, **said)  # type: ignore[no-untyped-call]
    return messages[0]


@pytest.mark.parametrize("empty", [True, False])
def test_every_kind_of_field_is_written_as_ib_async_writes_it(empty: bool) -> None:
    assert written("ours", *VALUES, makeEmpty=empty) == written("theirs", *VALUES, makeEmpty=empty)
    for value in VALUES:
        assert written("ours", value, makeEmpty=empty) == written("theirs", value, makeEmpty=empty)


def test_an_order_goes_out_byte_for_byte_as_from_ib_async() -> None:
    said = {
        "action": "BUY",
        "totalQuantity": Decimal("1.5"),
        "orderType": "LMT",
        "lmtPrice": Decimal("190.50"),
        "transmit": False,
    }
    sent: list[str] = []
    for ours in (True, False):
        client = Client(SimpleNamespace())  # type: ignore[no-untyped-call]
        client.isConnected, client.sendMsg = lambda: True, sent.append  # type: ignore[method-assign, assignment]
        client._serverVersion = 178
        if ours:
            ib_fields.hasten(client, Contract)
            blank_contract, blank_order = Contract(), Order()
            order, contract = ib_fields.like(blank_order, said), ib_fields.like(blank_contract, {"symbol": "AAPL"})
            assert (vars(order), vars(contract)) == (vars(Order(**said)), vars(Contract(symbol="AAPL")))
        client.placeOrder(17, contract if ours else Contract(symbol="AAPL"), order if ours else Order(**said))  # type: ignore[no-untyped-call]
        assert not ours or (vars(blank_order), vars(blank_contract)) == (vars(Order()), vars(Contract()))
    assert sent[0] == sent[1]
    assert sent[0].count("\0") > 100


def test_a_client_that_is_not_connected_writes_nothing() -> None:
    client = Client(SimpleNamespace())  # type: ignore[no-untyped-call]
    ib_fields.hasten(client, Contract)
    with pytest.raises(ConnectionError):
        client.send(3)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", [Order, Contract, OrderState, ContractDetails, ComboLeg])
@pytest.mark.parametrize("text", ["", "0", "7"])
def test_the_numbers_that_are_read_are_those_that_ib_async_reads(kind: type, text: str) -> None:
    ours, theirs = kind(), kind()
    for found in (ours, theirs):
        for field in dataclasses.fields(kind):
            if type(field.default) in (int, float, bool):
                setattr(found, field.name, text)
    decoder = Decoder(SimpleNamespace(), 178)  # type: ignore[arg-type]
    decoder.parse(theirs)  # type: ignore[no-untyped-call]
    ib_fields.parse(ours)
    names = ib_fields.READ.get(kind.__name__)
    for field in dataclasses.fields(kind):
        if names is None or field.name in names:
            assert repr(getattr(ours, field.name)) == repr(getattr(theirs, field.name)), field.name


def test_a_number_that_is_none_is_a_loss_only_where_it_is_read() -> None:
    order = Order()
    order.volatility = "?"  # type: ignore[assignment]
    ib_fields.parse(order)
    order.permId = "?"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="invalid literal"):
        ib_fields.parse(order)


def test_what_is_read_of_an_order_as_a_number_is_one() -> None:
    """Whatever `engine.ib_facts` compares with a number of ours: a bracket's parent, a group's kind."""
    read = set(re.findall(r"\border\.(\w+)", inspect.getsource(ib_facts.open_order)))
    numbers = read & {item.name for item in dataclasses.fields(Order) if type(item.default) in (int, float)}
    assert {"parentId", "ocaType"} <= numbers
    found = Order(**dict.fromkeys(numbers, "7"))
    ib_fields.parse(found)
    assert {name: getattr(found, name) for name in numbers} == dict.fromkeys(numbers, 7)
