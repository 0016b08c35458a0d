"""Orders inside the gateway that nobody sees yet: the fault `hold_inside`. Thin."""

from typing import TYPE_CHECKING

from ibsim.book import NORMAL, Fate
from ibsim.placing import Wish

if TYPE_CHECKING:
    from ibsim.gateway import Gateway


class Held:
    """Orders that were read from a socket and are taken later, even if their session has ended meanwhile."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._waiting: dict[tuple[int, int], list[tuple[Wish, Fate]]] = {}

    def hold(self, asked: Wish, fate: Fate, ms: int) -> None:
        """Keeps a new order for so long; its id counts as used."""
        key = asked.client_id, asked.order_id
        self._gateway.book.ids(asked.client_id).add(asked.order_id)
        self._waiting[key] = [(asked, fate._replace(admitted=True))]
        self._gateway.later(ms / 1000, lambda: self._release(key))

    def joins(self, asked: Wish) -> bool:
        """Whether an order of this id is held; then this one waits behind it, and is taken as its modification."""
        waiting = self._waiting.get((asked.client_id, asked.order_id))
        if waiting is None:
            return False
        waiting.append((asked, NORMAL))
        return True

    def _release(self, key: tuple[int, int]) -> None:
        gateway = self._gateway
        for asked, fate in self._waiting.pop(key):
            gateway.book.place(asked, gateway.now(), fate)
        gateway.flush()
