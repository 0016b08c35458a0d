"""Orders that depend on each other: brackets by parentId, and groups of which one cancels the others. Pure."""

from collections.abc import Iterator

from ibsim.orders import Order

CANCEL, REDUCE = 1, 2
"""What a fill does to the others of an OCA group: ocaType 1, and 2 or 3."""


class Groups:
    """The OCA groups of the open orders, by account and name."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], list[Order]] = {}

    def join(self, order: Order) -> None:
        """Enters an order in its group; children of one parent form a group of their own when they name none."""
        if not order.oca_group and order.parent is not None:
            order.oca_group, order.oca_type = str(order.parent.perm_id), REDUCE
        if order.oca_group:
            self._members.setdefault((order.account, order.oca_group), []).append(order)

    def leave(self, order: Order) -> None:
        """Takes an order that is over out of its group, and of its parent's children."""
        if order.parent is not None and order in order.parent.children:
            order.parent.children.remove(order)
        members = self._members.get((order.account, order.oca_group))
        if members is not None and order in members:
            members.remove(order)
            if not members:
                del self._members[order.account, order.oca_group]

    def others(self, order: Order) -> list[Order]:
        """The other open orders of its group."""
        if not order.oca_group:
            return []
        return [one for one in self._members.get((order.account, order.oca_group), ()) if one is not order]


def family(order: Order) -> Iterator[Order]:
    """The order's topmost ancestor and all that descend from it, parents before their children."""
    while order.parent is not None and not order.parent.done:
        order = order.parent
    todo = [order]
    for one in todo:
        yield one
        todo.extend(one.children)
