"""docs/settings.md, made from the settings themselves so that it cannot disagree with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ha.config_model import Settings
from ha.config_names import NOT_YET, REFUSED, WITHOUT_EFFECT
from ha.config_read import ALIASES, FIELDS, SECRETS
from ha.config_types import allowed

_SECTIONS = {
    "TWS_HOST": "Broker",
    "DATABASE_URL": "Database",
    "ETCD_ENDPOINTS": "etcd",
    "REPLICA_NAME": "Pair",
    "API_SECRET_KEY": "HTTP",
    "ORDER_RATE": "Orders and risk",
    "LEASE_TTL": "Timing, in seconds",
    "LOG_LEVEL": "Log, alerts, tests",
}
# Defaults that are computed, or that mean something else than they look like.
_SHOWN = {
    "TWS_GATEWAY_ID": "TWS_HOST:TWS_PORT",
    "RUN_DIR": "./.adapter/run/REPLICA_NAME",
    "ENABLE_API_AUTH": "true if API_SECRET_KEY is set",
    "ADVERTISE_URL": "http://HTTP_HOST:HTTP_PORT",
    "METRICS_PORT": "HTTP_PORT",
    "HEALTHCHECK_PORT": "HTTP_PORT",
    "RATE_LIMIT_PER_MINUTE": "no limit",
    "MAX_ORDER_QUANTITY": "no limit",
    "MAX_ORDER_VALUE": "no limit",
    "MAX_OPEN_ORDERS": "no limit",
    "ALLOWED_SYMBOLS": "all",
    "ALLOWED_ORIGINS": "none",
    "LOG_FILE": "stderr only",
    "LOG_STDERR": "LOG_LEVEL",
}

_INTRO = """\
# Settings

<!-- Made by `python -m ha.config --markdown`. A test compares; do not edit by hand. -->

Settings come from the environment and, below it, from a file `.env` in the working directory. An empty value counts as
not set. A wrong one stops the start: every sentence at once, with the setting's name, its value (never a secret's) and
what is allowed. A name that looks like a slip of one of these is refused with the one that is meant.

A secret (marked 🔒) can also come from a file: `NAME_FILE=/path`. A secret's file, and a `.env` that holds one, must
not be readable by others (`chmod 600`).
"""

_RELATIONS = """\
## What the timings must be to each other

`LOOP_ALLOWANCE` < `PROOF_MAX_AGE` < `SUSPECT_AFTER` < `LEASE_TTL`, and `WATCHDOG` < `LEASE_TTL`: a stale leader notices
that it is one, and shuts its gate, before another may act. `LEASE_MARGIN` < `LEASE_TTL`, and what is left of the ttl without
it is the trust in one renewal: `LOOP_ALLOWANCE` is below it, and so is `LEASE_RENEW_EVERY` with a third of `LEASE_TTL`.
`PROOF_EVERY` is below half of `PROOF_MAX_AGE`, `HEARTBEAT_EVERY` below half of `SUSPECT_AFTER`, so that one loss does no
harm. `ACK_TIMEOUT` < `ACK_DEADLINE`; `CLAIM_DEADLINE` and `RECONCILE_DEADLINE` < `PHASE_DEADLINE`. The start refuses
anything else, and the same relation between systemd's `WatchdogSec=` and `LEASE_TTL`.
"""


def markdown() -> str:
    """The whole page."""
    return "\n".join([_INTRO.rstrip(), *_tables(), "", _RELATIONS, *_other_names()]) + "\n"


def _tables() -> Iterator[str]:
    for name in FIELDS:
        if section := _SECTIONS.get(name):
            yield from ("", f"## {section}", "", "| setting | allowed | default | meaning |", "|---|---|---|---|")
        field = Settings.model_fields[name.lower()]
        lock = " 🔒" if name in SECRETS else ""
        alias = "".join(f" Alias `{other}`." for other, meant in ALIASES.items() if meant == name)
        later = f" No effect yet: {NOT_YET[name]}." if name in NOT_YET else ""
        described = " ".join((field.description or "").split())
        yield f"| `{name}`{lock} | {allowed(field)} | {_default(name)} | {described}{alias}{later} |"


def _default(name: str) -> str:
    value = Settings.model_fields[name.lower()].default
    if name in _SHOWN:
        return _SHOWN[name]
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)):
        return f"`{value:g}`"
    return f"`{value}`" if value else ""


def _other_names() -> Iterator[str]:
    yield from ("## Names that are refused or have no effect", "", "| name | answer |", "|---|---|")
    for name, why in REFUSED.items():
        yield f"| `{name}` | refused: {why} |"
    for name, why in WITHOUT_EFFECT.items():
        yield f"| `{name}` | accepted with a warning, no effect: {why} |"


def main(arguments: Sequence[str]) -> int:
    """`--markdown` prints the page, `--markdown FILE` writes it. 0, or 2 for any other use."""
    if not arguments or arguments[0] != "--markdown" or len(arguments) > 2:
        print("usage: python -m ha.config --markdown [FILE]")
        return 2
    if len(arguments) == 2:
        Path(arguments[1]).write_text(markdown(), encoding="utf-8")
    else:
        print(markdown(), end="")
    return 0
