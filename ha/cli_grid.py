"""A table before it is drawn: ruled and folded to the terminal's width, or one plain line a row for another program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

_STYLES = {
    "leader": "bold green",
    "standby": "cyan",
    "no answer": "bold red",
    "FILLED": "green",
    "REJECTED": "red",
    "IN_DOUBT": "bold red",
    "EXPIRED": "yellow",
    "shut": "yellow",
    "open": "green",
}
_LEAST = 5  # characters that a column keeps when it is folded


@dataclass(frozen=True)
class Grid:
    """Rows of text under `columns`, a list of names in one string.

    `>Name` is set to the right, `~Name` may be folded where the width does not suffice, `_` stands for a space.
    """

    columns: str
    rows: Sequence[Sequence[str]]

    @classmethod
    def of(cls, columns: str, rows: Iterable[Sequence[str]]) -> Grid:
        """A grid of any rows."""
        return cls(columns, list(rows))

    def _heads(self) -> list[tuple[str, bool, bool]]:
        return [
            (name.lstrip(">~").replace("_", " "), name.startswith(">"), name.startswith("~"))
            for name in self.columns.split()
        ]

    def table(self) -> Table:
        """For a terminal."""
        made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
        for name, right, folds in self._heads():
            made.add_column(
                Text(name),
                justify="right" if right else "left",
                overflow="fold",
                no_wrap=not folds,
                min_width=_LEAST if folds else None,
            )
        for row in self.rows:
            made.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        return made

    def lines(self) -> Iterator[str]:
        """For a pipe: columns in line, two spaces between."""
        heads = self._heads()
        every = [[name for name, _, _ in heads], *self.rows]
        widths = [max(map(len, column)) for column in zip(*every, strict=True)]
        for row in every:
            cells = zip(row, widths, heads, strict=True)
            yield "  ".join(c.rjust(w) if right else c.ljust(w) for c, w, (_, right, _) in cells).rstrip()
