"""Who may knock how often, and from which pages: rate limits per token and per remote address, and CORS. Pure.

Only paths under `/api/` are limited: probes and metrics must answer when everything else is refused. A browser sends a simple POST
from any page without asking first, so a page that is not allowed is refused here and not by the browser: without tokens, on
loopback, every page that this machine's user opens could place orders otherwise.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping

from engine.errors import Problem
from engine.pace import Pace

MINUTE = 60.0
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_REMEMBERED = 4096
"""Tokens and addresses remembered at most: a flood from many addresses does not fill the memory."""


class Door:
    """`per_minute` None = no limit. Time is an argument."""

    def __init__(self, per_minute: int | None = None, origins: tuple[str, ...] = ()) -> None:
        self._per_minute, self._origins = per_minute, frozenset(origins)
        self._paces: OrderedDict[str, Pace] = OrderedDict()

    def check(self, method: str, path: str, remote: str, headers: Mapping[str, str], now: float) -> None:
        """Raises Problem 403 for a page that is not allowed, 429 with Retry-After for who asked too often."""
        origin = headers.get("Origin")
        if origin is not None and origin not in self._origins and method not in _READS:
            raise Problem(403, "origin", "Not allowed", "Pages of this origin may not call (ALLOWED_ORIGINS).")
        if self._per_minute is None or not path.startswith("/api/"):
            return
        token = headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        who = [f"address {remote}"] + ([f"token {hashlib.sha256(token).hexdigest()}"] if token else [])
        paces = [self._pace(name) for name in who]
        if (wait := max(pace.wait(now) for pace in paces)) > 0:
            raise Problem(
                429, "rate-limit", "Too many requests", f"RATE_LIMIT_PER_MINUTE is {self._per_minute}; nothing was written.",
                retry_after=max(1, round(wait + 0.5)),
            )  # fmt: skip
        for pace in paces:
            pace.take(now)

    def _pace(self, who: str) -> Pace:
        assert self._per_minute is not None
        pace = self._paces.get(who)
        if pace is None:
            pace = self._paces[who] = Pace(self._per_minute / MINUTE, span=MINUTE)
            if len(self._paces) > _REMEMBERED:
                self._paces.popitem(last=False)
        self._paces.move_to_end(who)
        return pace

    def headers(self, origin: str | None) -> dict[str, str]:
        """What a browser on an allowed page needs to read the answer; nothing for anybody else."""
        if origin is None or origin not in self._origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin, "Vary": "Origin",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Correlation-ID",
            "Access-Control-Allow-Methods": "GET, POST, DELETE, PATCH, OPTIONS",
            "Access-Control-Expose-Headers": "Adapter-Role, Adapter-Epoch, Adapter-Seq, X-Correlation-ID, Location",
        }  # fmt: skip
