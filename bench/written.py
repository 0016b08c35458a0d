"""A replica that notes each order before and behind its write to the broker session, in a file that outlives kill -9.

`python -m bench.written` is `adapter run`; the notes go to BENCH_WRITES/PID.txt, one system call each: `=` when PostgreSQL has
answered a commit, `<` before a write and `>` behind it, each with CLOCK_MONOTONIC in ns, the last two with the order's reference.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.broker import Outgoing
from engine.broker_ib import IbBroker
from engine.store import Connection, Row
from ha.__main__ import main


def note_writes(directory: Path) -> None:
    """From now on."""
    notes = os.open(directory / f"{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    place, run = IbBroker.place, Connection.run

    def note(mark: str, reference: str = "") -> None:
        os.write(notes, f"{mark} {time.monotonic_ns()} {reference}\n".encode())

    def placed(self: IbBroker, order: Outgoing) -> None:
        note("<", order.reference)
        place(self, order)
        note(">", order.reference)

    async def ran(
        self: Connection, name: str, parameters: Mapping[str, Any] | None = None, deadline: float = 3.0
    ) -> list[Row]:
        rows = await run(self, name, parameters, deadline)
        if name == "append":
            note("=")
        return rows

    IbBroker.place = placed  # type: ignore[method-assign]
    Connection.run = ran  # type: ignore[method-assign]


if __name__ == "__main__":
    note_writes(Path(os.environ["BENCH_WRITES"]))
    sys.argv = ["adapter", "run", *sys.argv[1:]]
    main()
