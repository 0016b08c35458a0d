"""What the settings must be to each other: timing, ports, addresses, files that go together; and names with a slip.

Pure: the settings come in, findings go out. A finding names the settings that it is about, so that a value already
refused is not reported a second time for its relations.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ha.config_model import Settings

Need = Literal["run", "migrate", "release", "cli"]

LIVE_PORTS = {7496: "TWS", 4001: "IB Gateway", 4003: "the gateway's container"}
PAPER_PORTS = {7497: "TWS", 4002: "IB Gateway", 4004: "the gateway's container"}

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


@dataclass(frozen=True)
class Finding:
    """One sentence about the settings `names` (environment names)."""

    names: tuple[str, ...]
    sentence: str


# R12: each line must hold with room to spare, or a stale leader could still answer while the next one begins.
_BELOW = (
    ("loop_allowance", "proof_max_age", "a stalled loop must be noticed before its proof of epoch is too old"),
    ("proof_max_age", "suspect_after", "a stale leader must shut its gate before the standby suspects it"),
    ("suspect_after", "lease_ttl", "suspicion that comes after the lease has ended is of no use"),
    ("watchdog", "lease_ttl", "a hung process must be gone before its lease is"),
    ("lease_margin", "lease_ttl", "no trust in the lease would be left"),
    ("ack_timeout", "ack_deadline", "the broker is asked first, the session is dropped after"),
)


def _timing(s: Settings) -> Iterator[Finding]:
    for small, large, why in _BELOW:
        if getattr(s, small) >= getattr(s, large):
            yield Finding(
                (small.upper(), large.upper()),
                f"{_eq(s, small)} must be below {_eq(s, large)}: {why}; lower the first or raise the second.",
            )
    most = (s.lease_ttl - s.lease_margin) / 2
    if s.lease_renew_every >= most > 0:
        yield Finding(
            ("LEASE_RENEW_EVERY", "LEASE_TTL", "LEASE_MARGIN"),
            f"{_eq(s, 'lease_renew_every')} must be below {most:g}, half of LEASE_TTL less LEASE_MARGIN, so that one "
            "lost renewal does not end the lease; lower it.",
        )
    yield from _half(s, "proof_every", "proof_max_age", "one slow commit would shut the gate")
    yield from _half(s, "heartbeat_every", "suspect_after", "one lost heartbeat would look like silence")


def _half(s: Settings, small: str, large: str, why: str) -> Iterator[Finding]:
    if getattr(s, small) >= getattr(s, large) / 2:
        yield Finding(
            (small.upper(), large.upper()),
            f"{_eq(s, small)} must be below half of {_eq(s, large)}: {why}; lower the first or raise the second.",
        )


def _eq(s: Settings, name: str) -> str:
    value = getattr(s, name)
    return f"{name.upper()}={value:g}" if isinstance(value, float) else f"{name.upper()}={value}"


def _broker(s: Settings) -> Iterator[Finding]:
    wrong, right = (LIVE_PORTS, PAPER_PORTS) if s.trading_mode == "paper" else (PAPER_PORTS, LIVE_PORTS)
    if s.tws_port in wrong:
        other = "live" if s.trading_mode == "paper" else "paper"
        ports = ", ".join(f"{port} ({who})" for port, who in sorted(right.items()))
        yield Finding(
            ("TWS_PORT", "TRADING_MODE"),
            f"TWS_PORT={s.tws_port} is the {other} port of {wrong[s.tws_port]}, but TRADING_MODE={s.trading_mode}: "
            f"use {ports}, or set TRADING_MODE={other} if that is meant.",
        )
    if s.failpoints and s.trading_mode == "live":
        yield Finding(("FAILPOINTS",), "FAILPOINTS is for tests and not allowed with TRADING_MODE=live: remove it.")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host` (a name other than localhost counts as reachable)."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _http(s: Settings) -> Iterator[Finding]:
    if not is_loopback(s.http_host):
        if s.api_secret_key is None:
            yield Finding(
                ("HTTP_HOST", "API_SECRET_KEY"),
                f"HTTP_HOST={s.http_host} is reachable from other machines, and there is no API_SECRET_KEY: set one "
                "(at least 32 bytes), or listen on 127.0.0.1.",
            )
        elif not s.enable_api_auth:
            yield Finding(
                ("HTTP_HOST", "ENABLE_API_AUTH"),
                f"ENABLE_API_AUTH=false is allowed on loopback only, and HTTP_HOST={s.http_host} is not: remove it, or "
                "listen on 127.0.0.1.",
            )
    elif s.enable_api_auth and s.api_secret_key is None:
        yield Finding(
            ("ENABLE_API_AUTH", "API_SECRET_KEY"), "ENABLE_API_AUTH=true needs API_SECRET_KEY (at least 32 bytes)."
        )
    if any(f"//{nowhere}:" in s.advertise_url for nowhere in ("0.0.0.0", "[::]")):
        yield Finding(
            ("ADVERTISE_URL", "HTTP_HOST"),
            f"ADVERTISE_URL={s.advertise_url} is no address that others can call: set it to this host's own address.",
        )


def _together(s: Settings) -> Iterator[Finding]:
    pairs = (
        ("etcd_cert", "etcd_key"),
        ("etcd_key", "etcd_cert"),
        ("etcd_user", "etcd_password"),
        ("etcd_password", "etcd_user"),
        ("etcd_cert", "etcd_ca"),
        ("etcd_user", "etcd_ca"),
        ("alert_email", "smtp_url"),
    )
    for one, other in pairs:
        if getattr(s, one) is not None and getattr(s, other) is None:
            yield Finding(
                (one.upper(), other.upper()), f"{one.upper()} needs {other.upper()} too: set both or neither."
            )
    for agent, needed in (("command", "fence_command"), ("haproxy", "fence_haproxy_socket")):
        if s.fence_agent == agent and getattr(s, needed) is None:
            yield Finding(("FENCE_AGENT",), f"FENCE_AGENT={agent} needs {needed.upper()}: set it, or use wait.")
    if s.in_doubt == "same_id":
        yield Finding(("IN_DOUBT",), "IN_DOUBT=same_id is not served yet: use park.")


_WANTED = {
    "database_url": "the database as the adapter's own role, postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    "migrate_database_url": "the database as the owner of its tables, another role than that of DATABASE_URL",
    "etcd_endpoints": "the list of etcd's members, as HOST:PORT,HOST:PORT,HOST:PORT",
    "replica_name": "this replica's name, such as a",
}
_NEEDS: dict[Need, tuple[str, ...]] = {
    "run": ("database_url", "etcd_endpoints", "replica_name"),
    "migrate": ("migrate_database_url", "database_url"),
    "release": ("replica_name",),
    "cli": (),
}


def _needed(s: Settings, need: Need) -> Iterator[Finding]:
    for name in _NEEDS[need]:
        if not getattr(s, name):
            yield Finding((name.upper(),), f"{name.upper()} is not set: it is {_WANTED[name]}.")


def findings(s: Settings, need: Need) -> list[Finding]:
    """Everything that is wrong between settings that are each valid; empty where all is well."""
    return [f for part in (_timing(s), _broker(s), _http(s), _together(s), _needed(s, need)) for f in part]


def warnings(s: Settings) -> list[str]:
    """What is allowed and yet worth a sentence at start."""
    said = [f"{name} has no effect: {why}." for name, why in NOT_YET.items() if getattr(s, name.lower()) is not None]
    if 0 < (members := len(s.etcd_endpoints)) < 3:
        said.append(
            f"ETCD_ENDPOINTS names {members} member{'s' * (members > 1)}: with fewer than three, the loss of one host "
            "can leave the pair without an election; add a witness."
        )
    elif members % 2 == 0 and members:
        said.append(f"ETCD_ENDPOINTS names {members} members: an even number survives no more losses than one fewer.")
    return said


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
