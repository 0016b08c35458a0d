"""What was last seen of the leader key, brought into order: reads and watch events come from two threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ha.lease import BadLeaderRecord, LeaderRecord, LeaderSeen


def seen(value: bytes | None, lease_id: int, create_revision: int, *, revision: int, cluster_id: str) -> LeaderSeen:
    """The state of the leader key from what etcd said of it; `value` None = there is no key."""
    if value is None:
        return LeaderSeen(None, 0, 0, revision, cluster_id)
    try:
        record, problem = LeaderRecord.from_text(value), None
    except BadLeaderRecord as error:
        record, problem = None, str(error)
    return LeaderSeen(record, lease_id, create_revision, revision, cluster_id, problem)


class Sight:
    """Keeps the newest state and tells `report` of each change, in order. Safe to use from several threads."""

    def __init__(self, report: Callable[[LeaderSeen], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._last: LeaderSeen | None = None

    @property
    def revision(self) -> int:
        """The newest revision known. To be read before a linearizable read is begun, and given to `read`."""
        last = self._last
        return 0 if last is None else last.revision

    def read(self, state: LeaderSeen, *, known_before: int) -> None:
        """Take the answer of a linearizable read that began when `known_before` was the newest revision.

        An answer below that is another history (etcd was wiped or restored), and it counts. An answer below what came
        in since is only late.
        """
        self._take(state, back_in_time=state.revision < known_before)

    def event(self, state: LeaderSeen) -> None:
        """Take a change that a watch told of."""
        self._take(state, back_in_time=False)

    def _take(self, state: LeaderSeen, *, back_in_time: bool) -> None:
        with self._lock:
            last = self._last
            if last is not None and state.cluster_id == last.cluster_id and not back_in_time:
                if state.revision < last.revision:
                    return
                if state.same_key(last):
                    self._last = state
                    return
            self._last = state
            self._report(state)
