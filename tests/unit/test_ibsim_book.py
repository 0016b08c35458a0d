"""The book: what trades, when, and what is remembered."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ibsim.book import Book, Rules
from ibsim.contracts import KNOWN, Universe
from ibsim.ids import REMEMBERED, Ended, TakenIds
from ibsim.match import Resting
from ibsim.orders import Happening, Order
from ibsim.placing import Wish

UNIVERSE = Universe(KNOWN)
AAPL = UNIVERSE.by_key["AAPL"]


def an_order(number: int, side: str, price: Decimal, kind: str = "LMT") -> Order:
    limit = price if kind == "LMT" else None
    aux = price if kind == "STP" else None
    return Order(number, 1, number, "", "A", AAPL, side, Decimal(1), kind, limit, aux, "DAY", 1)


def a_book(rules: Rules | None = None) -> tuple[Book, list[Happening]]:
    told: list[Happening] = []
    return Book(Universe(KNOWN), ("A",), rules or Rules(), told.append), told


def a_wish(
    order_id: int = 1, side: str = "BUY", quantity: int = 10, limit: str | None = None, tif: str = "DAY"
) -> Wish:
    kind = "MKT" if limit is None else "LMT"
    price = None if limit is None else Decimal(limit)
    return Wish(1, 1, order_id, "", "A", (AAPL,), side, Decimal(quantity), kind, price, None, tif, {})


prices = st.integers(1, 30).map(Decimal)


@given(
    st.lists(st.tuples(st.sampled_from(["BUY", "SELL"]), prices, st.sampled_from(["LMT", "STP"])), max_size=200),
    st.sets(st.integers(0, 199)),
    prices,
)
def test_a_price_takes_out_exactly_the_orders_that_it_crosses(
    wanted: list[tuple[str, Decimal, str]], left: set[int], price: Decimal
):
    resting = Resting()
    orders = [an_order(number + 1, *one) for number, one in enumerate(wanted)]
    for order in orders:
        resting.add(order)
    for number in left:
        if number < len(orders):
            resting.remove(orders[number])
    staying = [order for number, order in enumerate(orders) if number not in left]

    def crosses(order: Order) -> bool:
        below = (order.side == "BUY") == (order.order_type == "LMT")
        edge = order.limit_price or order.aux_price
        assert edge is not None
        return price <= edge if below else price >= edge

    assert {o.perm_id for o in resting.crossed(price)} == {o.perm_id for o in staying if crosses(o)}
    assert resting.crossed(price) == []


def test_orders_at_one_price_trade_in_the_order_of_their_arrival():
    resting = Resting()
    for number in range(1, 6):
        resting.add(an_order(number, "BUY", Decimal(10)))
    assert [order.perm_id for order in resting.crossed(Decimal(9))] == [1, 2, 3, 4, 5]


def test_cancelled_orders_do_not_gather_in_the_heaps():
    resting = Resting()
    for number in range(10_000):
        order = an_order(number, "BUY", Decimal(10))
        resting.add(order)
        resting.remove(order)
    assert resting.entries() <= 65


@given(st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(1, 50), st.integers(1, 20)), max_size=30))
def test_position_is_the_sum_of_executions_and_cash_pays_for_them(trades: list[tuple[int, int, int]]):
    book, told = a_book()
    for number, (direction, quantity, price) in enumerate(trades):
        book.set_prices({AAPL.con_id: Decimal(price)}, 0.0)
        book.place(a_wish(number + 1, "BUY" if direction > 0 else "SELL", quantity), 0.0)
    held = book.accounts.position("A", AAPL)
    executions = [one.execution for one in told if one.execution is not None]
    signed = [(e.shares if e.side == "BUY" else -e.shares, e) for e in executions]
    assert held.quantity == sum(shares for shares, _ in signed) == sum(d * q for d, q, _ in trades)
    paid = sum(shares * e.price + e.commission for shares, e in signed)
    assert book.accounts.cash["A"] == Decimal(1_000_000) - paid


def test_ioc_takes_what_there_is_and_goes():
    book, told = a_book()
    book.place(a_wish(1, limit="100", tif="IOC"), 0.0)
    assert [one.kind for one in told] == ["order", "working", "cancelled"]
    book.place(a_wish(2, limit="200", tif="FOK"), 0.0)
    assert told[-1].status == "Filled"
    assert not book.orders.by_perm_id


def test_a_fill_is_due_after_the_delay_and_not_before():
    book, told = a_book(Rules(fill_delay=0.5))
    book.place(a_wish(), 10.0)
    assert book.at(10.4) == 10.5
    assert told[-1].kind == "working"
    assert book.at(10.5) is None
    assert told[-1].kind == "execution"


def test_a_done_order_leaves_memory_and_its_id_stays_used():
    book, told = a_book()
    book.place(a_wish(5), 0.0)
    assert not book.orders.by_perm_id
    assert book.ids(1).next_valid == 6
    book.place(a_wish(5, side="SELL"), 0.0)
    assert told[-1].code == 103
    book.place(a_wish(5), 0.0)
    assert told[-1].code == 104
    book.cancel(1, 5, 0.0)
    assert (told[-1].code, "Filled" in told[-1].text) == (10148, True)


def test_an_order_id_may_skip_but_not_return():
    ids = TakenIds(1)
    ids.add(10)
    ids.add(20)
    assert (ids.next_valid, ids.used(15), ids.used(21)) == (21, True, False)
    ids.roll_back(5)
    assert (ids.next_valid, ids.used(16)) == (16, False)


def test_what_is_remembered_of_ended_orders_is_bounded():
    ids = TakenIds(1)
    for order_id in range(1, REMEMBERED + 2):
        ids.add(order_id)
        ids.finish(order_id, Ended("Filled", 1, "BUY", ""))
    assert ids.end(1) is None
    assert ids.end(REMEMBERED + 1) == Ended("Filled", 1, "BUY", "")
