"""Where the market stood: a small file beside the journal, so that a restarted stand-in goes on from there."""

import json
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from ibsim.contracts import Universe
from ibsim.journal import JournalError
from ibsim.wire import plain

PERIOD = 1.0
"""Seconds between two writes of a walking market."""


class PriceFile:
    """Writes the prices that differ from where their contracts start; without a journal it does nothing."""

    def __init__(self, journal: Path | None, universe: Universe) -> None:
        self._path = None if journal is None else journal.with_name(journal.name + ".prices")
        self._universe = universe
        self._written = ""
        self._next = 0.0

    def read(self) -> dict[int, Decimal]:
        """The prices of an earlier run by conId; those of contracts that are no longer listed are left out.

        Raises JournalError if the file is none of ours.
        """
        if self._path is None or not self._path.exists():
            return {}
        known = self._universe.by_key
        try:
            prices = json.loads(self._path.read_text())
            return {known[key].con_id: Decimal(price) for key, price in prices.items() if key in known}
        except (ValueError, ArithmeticError, AttributeError, TypeError):
            raise JournalError(f"{self._path} does not hold the prices of a stand-in gateway") from None

    def write(self, prices: Mapping[int, Decimal]) -> None:
        """Puts the file in place, whole. Raises OSError if the disk refuses."""
        if self._path is None:
            return
        moved = {
            key: plain(prices[one.con_id])
            for key, one in self._universe.by_key.items()
            if prices.get(one.con_id, one.price) != one.price
        }
        text = json.dumps(moved)
        if text == self._written:
            return
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(text)
        os.replace(new, self._path)
        self._written = text

    def write_now_and_then(self, prices: Mapping[int, Decimal], now: float) -> None:
        """The same, at most once in a PERIOD."""
        if now >= self._next:
            self._next = now + PERIOD
            self.write(prices)
