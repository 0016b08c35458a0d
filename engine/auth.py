"""Who asks: bearer tokens (JWT, HS256) with a subject and a role, or, on loopback without a secret, everybody as `local`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import jwt

from engine.desk_settings import Asker
from engine.errors import Problem
from engine.http import Request

ROLES = ("viewer", "trader", "operator")
"""Each may do what those before it may."""

MAX_TOKEN = 4096
_EXPIRED = "The token has expired; issue a new one with `adapter token`."
_SUBJECT = re.compile(r"[\x21-\x7e]{1,64}")


@dataclass(frozen=True, slots=True)
class Access:
    """Verifies tokens. `secrets` empty = no tokens: the settings allow that on loopback only."""

    secrets: Sequence[str] = ()

    def asker(self, request: Request, role: str) -> Asker:
        """Who asks, with at least `role`. Raises Problem 401 without a valid token and 403 with too small a role."""
        if not self.secrets:
            return Asker("local", request.correlation_id, request.remote)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("Send `Authorization: Bearer TOKEN`; tokens are issued by `adapter token`.")
        claims = self._claims(token.strip())
        subject, held = claims.get("sub"), claims.get("role")
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or held not in ROLES:
            raise _unauthorized("The token names no subject or no role of viewer, trader, operator.")
        if ROLES.index(held) < ROLES.index(role):
            raise Problem(403, "role", "Not allowed", f"This needs the role {role}; the token's is {held}.")
        return Asker(subject, request.correlation_id, request.remote)

    def _claims(self, token: str) -> dict[str, object]:
        if len(token) > MAX_TOKEN:
            raise _unauthorized("The token is too long.")
        why = "The token is not valid."
        for secret in self.secrets:  # two while keys are rotated
            try:
                claims = _signed(token, secret)
            except jwt.ExpiredSignatureError:
                why = _EXPIRED
                continue
            except (
                jwt.PyJWTError,
                ValueError,
                OverflowError,
            ):  # the latter two: bytes that are no text, an end without end
                continue
            if time.time() >= int(str(claims["exp"])):  # it was good when it was looked at first
                raise _unauthorized(_EXPIRED)
            return claims
        raise _unauthorized(why)


@lru_cache(maxsize=1024)
def _signed(token: str, secret: str) -> dict[str, object]:
    """The claims of a good token. A strategy shows the same one with each order: its signature is looked at once."""
    return dict(jwt.decode(token, secret, algorithms=["HS256"], options={"require": ["exp", "sub"]}))


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", "Not authenticated", detail)
