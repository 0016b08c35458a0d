"""Bearer tokens: HS256, with `sub`, `role` and an end. Who holds API_SECRET_KEY issues them; nothing is stored."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

ROLES = ("viewer", "trader", "operator")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = timedelta(days=366)
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")


@dataclass(frozen=True)
class Issued:
    """A token and what stands in it."""

    token: str
    subject: str
    role: str
    expires_at: datetime

    def as_json(self) -> str:
        """One line of JSON."""
        end = self.expires_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return json.dumps({"token": self.token, "sub": self.subject, "role": self.role, "expires_at": end})


def issue(secret: str | None, subject: str, role: str, ttl: str, now: datetime | None = None) -> Issued:
    """A token for `subject` that is good from now for `ttl`. Raises ValueError with a sentence."""
    if secret is None:
        raise ValueError("API_SECRET_KEY is not set: a token is signed with it (at least 32 bytes).")
    if not _SUBJECT.fullmatch(subject):
        raise ValueError(
            f"--sub {subject!r} is not allowed: 1 to 64 of A-Z a-z 0-9 . _ : @ -, beginning with A-Z a-z 0-9."
        )
    if role not in ROLES:
        raise ValueError(f"--role {role!r} is not allowed: it must be one of {', '.join(ROLES)}.")
    end = (now or datetime.now(UTC)).replace(microsecond=0) + lifetime(ttl)
    claims = {"sub": subject, "role": role, "exp": end}  # no `iat`: a replica whose clock is behind would refuse it
    return Issued(jwt.encode(claims, secret, algorithm="HS256"), subject, role, end)


def lifetime(ttl: str) -> timedelta:
    """`15m`, `8h` or `30d` as a time. Raises ValueError with a sentence."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", ttl.strip(), re.ASCII)
    time = timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match else timedelta()
    if not timedelta() < time <= _LONGEST:
        raise ValueError(f"--ttl {ttl!r} is not allowed: a number with s, m, h or d behind it, at most 366d.")
    return time
