"""What mutated input does to the stand-in gateway: a short run, and what once broke it."""

import random
from pathlib import Path

import pytest

from ibsim.contracts import KNOWN
from ibsim.gateway import Gateway
from ibsim.messages import encode_request
from ibsim.peer import PLAIN_ORDER
from tests.unit.ibsim_fuzzer import ACCOUNT, Mutator, Round, fuzz


async def test_mutated_input_is_served_or_refused_and_the_journal_tells_it_all():
    counts = await fuzz(seed=1, inputs=6000)
    assert counts["gateway"] > 2000
    assert counts["different answers"] > 100


STOCK = {**PLAIN_ORDER, "symbol": "AAPL", "account": ACCOUNT, "action": "BUY", "totalQuantity": "5", "lmtPrice": "100"}
FOUND: dict[str, dict[str, str]] = {
    "a quantity whose digits would fill the memory": {"totalQuantity": "1e-999999999"},
    "a quantity with more digits than sums are exact to": {"totalQuantity": "1000000000000000000000000000000.5"},
    "a quantity finer than sums are exact to": {"totalQuantity": "1.0000000000000000000000000001"},
    "a price that no tick divides within the digits": {"lmtPrice": "1E300"},
    "an OCA type that is no number": {"ocaGroup": "G", "ocaType": "MOC"},
    "a time in a directory of time zones": {"tif": "GTD", "goodTillDate": "20301231 15:00:00 America"},
    "a strike that is a signalling NaN": {"strike": "sNaN"},
    "a conId of 5000 digits": {"conId": "9" * 5000},
    "an order id of more than 32 bits": {"orderId": "2147483648"},
    "a reference of a hundred thousand characters": {"orderRef": "x" * 100_000},
}


@pytest.mark.parametrize("values", FOUND.values(), ids=list(FOUND))
async def test_what_once_broke_it_is_an_error_to_its_sender_and_nothing_else(values: dict[str, str], tmp_path: Path):
    one = Round(Mutator(random.Random(1)), tmp_path)
    payload = encode_request("placeOrder", 178, {"orderId": "1", **STOCK, **values})[4:]
    told = one.send(payload)
    assert told
    assert told[-1][0] == "error"
    one.look()
    assert one.gateway.book.orders.by_perm_id == {}
    await one.compare()


async def test_an_id_that_was_held_inside_and_then_refused_stays_used_after_a_restart(tmp_path: Path):
    one = Round(Mutator(random.Random(1)), tmp_path)
    one.gateway.fault_on("hold_inside", {"ms": 1})
    one.send(encode_request("placeOrder", 178, {**STOCK, "orderId": "7", "lmtPrice": "0.001"})[4:])
    await one.compare()
    again = Gateway(one.settings, KNOWN)
    assert again.book.ids(0).next_valid == 8
    again.close()
