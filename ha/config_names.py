"""Names of settings that are refused, without effect, not fulfilled yet, or here for others; and names with a slip. Pure."""

from __future__ import annotations

from collections.abc import Iterable

# Known names that stop the start, and what to use instead.
REFUSED = {
    "STATE_FILE": "the state is the database that DATABASE_URL names; remove STATE_FILE",
}
# Known names that are accepted and change nothing, and what took their place.
WITHOUT_EFFECT = {
    "MAX_WORKERS": "one event loop does all the work",
    "CACHE_SIZE": "there is no quote cache yet",
    "MAX_SUBSCRIPTIONS": "market data is not served yet",
    "REDIS_URL": "nothing is kept in Redis yet",
    "KAFKA_BOOTSTRAP_SERVERS": "events are not sent to Kafka yet; GET /api/v1/events streams them",
}
# Settings that a later version fulfils. A setting leaves this table in the change that makes it work.
NOT_YET = {
    "ALERT_EMAIL": "alerts are not sent yet",
    "ALERT_SLACK_WEBHOOK": "alerts are not sent yet",
    "ALERT_HEARTBEAT_URL": "alerts are not sent yet",
    "SMTP_URL": "alerts are not sent yet",
    "STATE_BACKUP_DIR": "backups are not made yet",
}
# Settings that are here for others: the adapter has no use for them and hands them on to nobody.
FOR_OTHERS = frozenset({"IB_USERNAME", "IB_PASSWORD"})

_UNITS = ("_SECONDS", "_SECS", "_SEC", "_S", "_MS", "_MINUTES")


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is a slip of, or None: other case, a unit behind it, one or two letters off."""
    known = sorted(known)
    if name.upper() in known:
        return name.upper()
    for unit in _UNITS:
        if name.upper().removesuffix(unit) in known:
            return name.upper().removesuffix(unit)
    best = min(known, key=lambda other: distance(name, other))
    return best if distance(name, best) <= (1 if len(name) < 8 else 2) else None


def distance(a: str, b: str) -> int:
    """How many letters must be added, taken away, changed or swapped with their neighbour to make `b` of `a`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]
