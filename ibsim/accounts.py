"""Positions, average cost and cash of the accounts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ibsim.contracts import Instrument
from ibsim.orders import ZERO, Execution

START_CASH = Decimal(1_000_000)
_CENT = Decimal("0.01")
_MICRO = Decimal("0.000001")
_PER_SHARE = Decimal("0.005")
_PER_OPTION = Decimal("0.65")
_PER_FUTURE = Decimal("2.25")
_OF_CURRENCY = Decimal("0.00002")
_ONE, _TWO, _HUNDRED = Decimal(1), Decimal(2), Decimal(100)


@dataclass(slots=True)
class Position:
    """What an account holds of one contract; `average_cost` per unit, multiplier and commissions in it, as IB counts."""

    account: str
    instrument: Instrument
    quantity: Decimal = ZERO
    average_cost: Decimal = ZERO
    realized_pnl: Decimal = ZERO


def commission(instrument: Instrument, shares: Decimal, price: Decimal) -> Decimal:
    """IB's fixed tariffs for the US: stocks 0.005 a share, at least 1, at most 1 % of the trade; options 0.65 a contract,
    at least 1; futures 2.25 a contract; currencies 0.2 basis points, at least 2.
    """
    if instrument.sec_type == "STK":
        fee = max(min(max(_ONE, shares * _PER_SHARE), shares * price / _HUNDRED), _CENT)
    elif instrument.sec_type == "OPT":
        fee = max(_ONE, shares * _PER_OPTION)
    elif instrument.sec_type == "FUT":
        fee = shares * _PER_FUTURE
    else:
        fee = max(_TWO, shares * price * _OF_CURRENCY)
    return fee.quantize(_MICRO)


class Accounts:
    """The ledger of all accounts at the broker."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.cash = dict.fromkeys(self.names, START_CASH)
        self._positions: dict[tuple[str, int], Position] = {}

    def book(
        self, account: str, instrument: Instrument, signed: Decimal, price: Decimal, fee: Decimal
    ) -> Decimal | None:
        """Books one fill, bought shares positive.

        Returns the realized profit of its closing part, None if it closes nothing.
        """
        position = self._position(account, instrument)
        unit = price * instrument.multiplier
        self._pay(account, signed * unit + fee)
        held, shares = position.quantity, abs(signed)
        closing = min(abs(held), shares) if held * signed < 0 else ZERO
        fee_per_share = fee / shares
        realized: Decimal | None = None
        if closing:
            gain = unit - position.average_cost if held > 0 else position.average_cost - unit
            realized = (gain - fee_per_share) * closing
            position.realized_pnl += realized
        opening = shares - closing
        position.quantity = held + signed
        if position.quantity == 0:
            position.average_cost = ZERO
        elif opening:
            kept = abs(held) - closing
            cost = unit + fee_per_share if signed > 0 else unit - fee_per_share
            position.average_cost = (position.average_cost * kept + cost * opening) / (kept + opening)
        return realized

    def correct(self, was: Execution, now: Execution) -> None:
        """Puts an execution's correction in its place: the quantity and the cash as if only the correction had been.

        The cost basis moves by the difference of the two where the position still has the execution's direction.
        """
        position = self._position(was.account, was.instrument)
        multiplier = was.instrument.multiplier
        paid = (now.signed * now.price - was.signed * was.price) * multiplier + now.commission - was.commission
        self._pay(was.account, paid)
        basis = position.average_cost * position.quantity + paid
        position.quantity += now.signed - was.signed
        if position.quantity == 0:
            position.average_cost = ZERO
        elif position.quantity * was.signed > 0:
            position.average_cost = basis / position.quantity

    def positions(self, account: str | None = None) -> list[Position]:
        """The positions that are not flat, of one account or of all."""
        return [p for p in self._positions.values() if p.quantity and account in (None, "", p.account)]

    def position(self, account: str, instrument: Instrument) -> Position:
        """One position, flat if there is none."""
        return self._positions.get((account, instrument.con_id)) or Position(account, instrument)

    def _position(self, account: str, instrument: Instrument) -> Position:
        key = account, instrument.con_id
        found = self._positions.get(key)
        if found is None:
            found = self._positions[key] = Position(account, instrument)
        return found

    def _pay(self, account: str, amount: Decimal) -> None:
        self.cash[account] = self.cash.get(account, START_CASH) - amount
