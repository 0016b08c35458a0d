"""What the settings must be to each other: timing, ports, addresses, files that go together.

Pure: the settings come in, findings go out. A finding names the settings that it is about, so that a value already
refused is not reported a second time for its relations.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ha import haproxy
from ha.config_model import Settings
from ha.config_names import NOT_YET

Need = Literal["run", "single", "migrate", "release", "cli"]

LIVE_PORTS = {7496: "TWS", 4001: "IB Gateway", 4003: "the gateway's container"}
PAPER_PORTS = {7497: "TWS", 4002: "IB Gateway", 4004: "the gateway's container"}


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
    ("claim_deadline", "phase_deadline", "a claim in time would be given up"),
    ("reconcile_deadline", "phase_deadline", "a reconciliation in time would be given up"),
)


def _timing(s: Settings) -> Iterator[Finding]:
    for small, large, why in _BELOW:
        if getattr(s, small) >= getattr(s, large):
            yield Finding(
                (small.upper(), large.upper()),
                f"{_eq(s, small)} must be below {_eq(s, large)}: {why}; lower the first or raise the second.",
            )
    yield from _lease(s)
    yield from _half(s, "proof_every", "proof_max_age", "one slow commit would shut the gate")
    yield from _half(s, "heartbeat_every", "suspect_after", "one lost heartbeat would look like silence")


def _lease(s: Settings) -> Iterator[Finding]:
    """What `ha.lease.LeaseTiming` demands, by the settings' names."""
    trust = s.lease_ttl - s.lease_margin
    if 0 < trust <= s.lease_renew_every + s.lease_ttl / 3:
        yield Finding(
            ("LEASE_RENEW_EVERY", "LEASE_TTL", "LEASE_MARGIN"),
            f"{_eq(s, 'lease_renew_every')} and a third of {_eq(s, 'lease_ttl')} must together be below {trust:g}, LEASE_TTL "
            "less LEASE_MARGIN: a renewal that meets a frozen member of etcd needs the time for a second one; lower "
            "LEASE_RENEW_EVERY or raise LEASE_TTL.",
        )
    if 0 < trust <= s.loop_allowance:
        yield Finding(
            ("LOOP_ALLOWANCE", "LEASE_TTL", "LEASE_MARGIN"),
            f"{_eq(s, 'loop_allowance')} must be below {trust:g}, LEASE_TTL less LEASE_MARGIN: no trust in the lease would be "
            "left when the loop runs again; lower it.",
        )


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
    if s.tws_spare_client_id == s.tws_client_id:
        yield Finding(
            ("TWS_SPARE_CLIENT_ID", "TWS_CLIENT_ID"),
            f"TWS_SPARE_CLIENT_ID={s.tws_spare_client_id} is the pair's own TWS_CLIENT_ID: a session under it would end the "
            "leader's. Use one that nobody uses.",
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
    far = [endpoint for endpoint in s.etcd_endpoints if not is_loopback(endpoint.rpartition(":")[0])]
    if s.one_machine and far:
        yield Finding(
            ("ONE_MACHINE", "ETCD_ENDPOINTS"),
            f"ONE_MACHINE=true is for `adapter up`, and ETCD_ENDPOINTS names {far[0]}, which is not on this machine: remove it.",
        )
    for agent, needed in (("command", "fence_command"), ("haproxy", "fence_haproxy_socket")):
        if s.fence_agent == agent and getattr(s, needed) is None:
            yield Finding(("FENCE_AGENT",), f"FENCE_AGENT={agent} needs {needed.upper()}: set it, or use wait.")
    if s.fence_haproxy_socket is not None:
        try:
            haproxy.address_of(s.fence_haproxy_socket)
        except ValueError as error:
            yield Finding(("FENCE_HAPROXY_SOCKET",), str(error))


_WANTED = {
    "database_url": "the database as the adapter's own role, postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    "migrate_database_url": "the database as the owner of its tables, another role than that of DATABASE_URL",
    "etcd_endpoints": "the list of etcd's members, as HOST:PORT,HOST:PORT,HOST:PORT",
    "replica_name": "this replica's name, such as a",
}
_NEEDS: dict[Need, tuple[str, ...]] = {
    "run": ("database_url", "etcd_endpoints", "replica_name"),
    "single": ("database_url", "replica_name"),
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


def warnings(s: Settings, need: Need) -> list[str]:
    """What is allowed and yet worth a sentence at start."""
    said = [f"{name} has no effect: {why}." for name, why in NOT_YET.items() if getattr(s, name.lower()) is not None]
    if need == "single":
        return [*said, "ETCD_ENDPOINTS is not used: `adapter run --single` asks no etcd."] if s.etcd_endpoints else said
    if s.one_machine:
        return said
    if 0 < (members := len(s.etcd_endpoints)) < 3:
        said.append(
            f"ETCD_ENDPOINTS names {members} member{'s' * (members > 1)}: with fewer than three, the loss of one host "
            "can leave the pair without an election; add a witness."
        )
    elif members % 2 == 0 and members:
        said.append(f"ETCD_ENDPOINTS names {members} members: an even number survives no more losses than one fewer.")
    return said
