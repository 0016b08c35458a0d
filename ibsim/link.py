"""What the gateway knows while it has lost IB: orders and positions as they were, and what it passes on later. Pure."""

import copy
from collections.abc import Callable, Iterator, Sequence

from ibsim.accounts import Position
from ibsim.live import LiveOrders
from ibsim.orders import Order


class Link:
    """The link between gateway and IB. While it is down, IB goes on with the orders that it has."""

    def __init__(self, live: LiveOrders) -> None:
        self.up = True
        self.noticed = False
        """Whether the gateway knows that the link is down; it learns of it late, and tells nobody before."""
        self.resubmit = True
        """Whether an order that comes while the link is down is kept and submitted later, or rejected."""
        self.unseen: set[str] = set()
        """The execIds of what IB did while the link was down, until it is up again."""
        self._live = live
        self._shown: dict[int, Order] = {}
        self._positions: list[Position] = []
        self._kept: list[Callable[[float], None]] = []

    def lose(self, positions: Sequence[Position]) -> None:
        """The gateway loses IB: from now on what it shows is what it knew."""
        self.up, self.noticed = False, False
        self._positions = [copy.copy(one) for one in positions]

    def restore(self, now: float) -> None:
        """IB is back: the truth is shown, and what was kept is passed on."""
        self.up = True
        self._shown.clear()
        self.unseen.clear()
        kept, self._kept = self._kept, []
        for action in kept:
            action(now)

    def keep(self, action: Callable[[float], None]) -> None:
        """Passes this on, with the time, when the link is up again."""
        self._kept.append(action)

    def before(self, order: Order) -> bool:
        """IB is about to change this order; returns whether the gateway sees it."""
        if self.up:
            return True
        if order.perm_id not in self._shown:
            self._shown[order.perm_id] = copy.copy(order)
        return False

    def orders(self) -> Iterator[Order]:
        """The open orders as the gateway knows them."""
        if not self._shown:
            yield from self._live
            return
        for order in self._live:
            yield self._shown.get(order.perm_id, order)
        for perm_id, order in list(self._shown.items()):
            if perm_id not in self._live.by_perm_id:
                yield order

    def shows_end(self, perm_id: int) -> bool:
        """Whether the gateway knows that this order is over."""
        return perm_id not in self._shown

    def positions(self, truth: Sequence[Position]) -> Sequence[Position]:
        """The positions as the gateway knows them."""
        return truth if self.up else [one for one in self._positions if one.quantity]
