"""The open orders: by permId, and by clientId and order id. Pure."""

from collections.abc import Iterator

from ibsim.ids import Ended, TakenIds
from ibsim.orders import Order

FIRST_PERM_ID = 900_000_001


class LiveOrders:
    """Every order that is not over, and the ids that each client has used."""

    def __init__(self, first_id: int) -> None:
        self.by_perm_id: dict[int, Order] = {}
        self.next_perm_id = FIRST_PERM_ID
        self._first_id = first_id
        self._by_id: dict[tuple[int, int], list[Order]] = {}
        self._ids: dict[int, TakenIds] = {}

    def __iter__(self) -> Iterator[Order]:
        return iter(list(self.by_perm_id.values()))

    def ids(self, client_id: int) -> TakenIds:
        """The order ids of one clientId."""
        found = self._ids.get(client_id)
        if found is None:
            found = self._ids[client_id] = TakenIds(self._first_id)
        return found

    def roll_back(self, count: int) -> None:
        """Every client's next valid id goes back by so many, as after some restarts of the real gateway."""
        for ids in self._ids.values():
            ids.roll_back(count)

    def find(self, client_id: int, order_id: int) -> Order | None:
        """The open order under this clientId and id; the older one if there is a twin; None if there is none."""
        found = self._by_id.get((client_id, order_id))
        return found[0] if found else None

    def adopt(self, order: Order) -> None:
        """Enters an order that has its permId: a new one, or one from the journal."""
        self.next_perm_id = max(self.next_perm_id, order.perm_id + 1)
        self.by_perm_id[order.perm_id] = order
        if order.order_id:
            self._named(order)
            if order.order_id > 0:
                self.ids(order.client_id).add(order.order_id)

    def bind(self, order: Order, order_id: int) -> None:
        """Gives an order that was placed by hand an id under which the API can change it."""
        order.order_id = order_id
        self._named(order)

    def _named(self, order: Order) -> None:
        self._by_id.setdefault((order.client_id, order.order_id), []).append(order)

    def forget(self, order: Order) -> None:
        """Takes an order that is over out of memory; its id stays used."""
        self.by_perm_id.pop(order.perm_id, None)
        if not order.order_id:
            return
        key = order.client_id, order.order_id
        named = self._by_id.get(key)
        if named is not None and order in named:
            named.remove(order)
            if not named:
                del self._by_id[key]
        ended = Ended(order.status, order.instrument.con_id, order.side, order.order_ref)
        self.ids(order.client_id).finish(order.order_id, ended)
