"""Who was licensed while a break held the contract, by the log's order. Pure.

The judge sees a break's moment as its writer told it, and when the broker took an order. On a busy machine half a second lies
between that moment and the break's commit, and orders that were licensed by a commit before it are rightly sent (R2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ha.demo.findings import Finding
from tests.chaos.check import Row, licences

_BREAK = re.compile(r"which break (\S+) holds")


def licensed_while_held(found: Sequence[Finding], log: Sequence[Row]) -> list[Finding]:
    """Those of the judge's findings whose last licence stands in the log behind the break, and before its resolution."""
    opened = {str(row.payload.get("id")): row.seq for row in log if row.kind == "break_opened"}
    resolved = {str(row.payload.get("id")): row.seq for row in log if row.kind == "break_resolved"}
    given = licences(log)
    kept = []
    for finding in found:
        match = _BREAK.search(finding.why)
        last = max((licence.seq for licence in given.get(finding.order_id or "", [])), default=None)
        name = match[1] if match else ""
        if last is None or name not in opened or opened[name] < last < resolved.get(name, last + 1):
            kept.append(finding)
    return kept
