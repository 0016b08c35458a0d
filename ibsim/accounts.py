"""Positions, average cost and cash of the accounts. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ibsim.orders import ZERO

START_CASH = Decimal(1_000_000)


@dataclass(slots=True)
class Position:
    """What an account holds of one symbol; `average_cost` per share, commissions included, as IB counts it."""

    account: str
    symbol: str
    quantity: Decimal = ZERO
    average_cost: Decimal = ZERO
    realized_pnl: Decimal = ZERO


def commission(shares: Decimal, price: Decimal) -> Decimal:
    """IB's fixed tariff for US stocks: 0.005 USD a share, at least 1 USD, at most 1 % of the trade."""
    return max(min(max(Decimal(1), shares * Decimal("0.005")), shares * price / 100), Decimal("0.01")).quantize(
        Decimal("0.000001")
    )


class Accounts:
    """The ledger of all accounts at the broker."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.cash = dict.fromkeys(self.names, START_CASH)
        self._positions: dict[tuple[str, str], Position] = {}

    def book(self, held_by: tuple[str, str], signed: Decimal, price: Decimal, fee: Decimal) -> Decimal | None:
        """Books one fill of (account, symbol), bought shares positive.

        Returns the realized profit of its closing part, None if it closes nothing.
        """
        account = held_by[0]
        position = self._positions.setdefault(held_by, Position(*held_by))
        self.cash[account] = self.cash.get(account, START_CASH) - signed * price - fee
        held, shares = position.quantity, abs(signed)
        closing = min(abs(held), shares) if held * signed < 0 else ZERO
        fee_per_share = fee / shares
        realized: Decimal | None = None
        if closing:
            gain = price - position.average_cost if held > 0 else position.average_cost - price
            realized = (gain - fee_per_share) * closing
            position.realized_pnl += realized
        opening = shares - closing
        position.quantity = held + signed
        if position.quantity == 0:
            position.average_cost = ZERO
        elif opening:
            kept = abs(held) - closing
            cost = price + fee_per_share if signed > 0 else price - fee_per_share
            position.average_cost = (position.average_cost * kept + cost * opening) / (kept + opening)
        return realized

    def positions(self, account: str | None = None) -> Iterable[Position]:
        """The positions that are not flat, of one account or of all."""
        return [p for p in self._positions.values() if p.quantity and account in (None, "", p.account)]

    def position(self, account: str, symbol: str) -> Position:
        """One position, flat if there is none."""
        return self._positions.get((account, symbol)) or Position(account, symbol)
