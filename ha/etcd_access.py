"""How to reach etcd, and the names of the keys there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

QUORUM = 3
_HOST_PORT = re.compile(r"^(?P<scheme>https?://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]/:,\s]+):(?P<port>\d{1,5})/?$")


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """Endpoints as `host:port` (a scheme is taken off), paths of the TLS files, user and password.

    With `ca` the connection is TLS; `cert` and `key` are the client's own. Raises ValueError with a sentence at
    construction for what cannot work. The password is never shown.
    """

    endpoints: tuple[str, ...]
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("ETCD_ENDPOINTS names no endpoint; give host:port, three of them in production")
        object.__setattr__(self, "endpoints", tuple(_endpoint(one, self.ca is not None) for one in self.endpoints))
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError(f"ETCD_ENDPOINTS names an endpoint twice: {', '.join(self.endpoints)}")
        if (self.cert is None) != (self.key is None):
            raise ValueError("etcd's client certificate and its key belong together: give both or none")
        if self.cert is not None and self.ca is None:
            raise ValueError("a client certificate for etcd needs the ca that etcd's own certificate is checked with")
        if (self.user is None) != (self.password is None):
            raise ValueError("etcd's user and password belong together: give both or none")

    @property
    def warnings(self) -> list[str]:
        """Sentences about what works but should not be left so."""
        found = []
        if len(self.endpoints) < QUORUM:
            found.append(
                f"ETCD_ENDPOINTS names {len(self.endpoints)} of at least {QUORUM} members: two hosts cannot form a "
                f"quorum that survives one of them; add a small witness host as the third voter"
            )
        if self.user is not None and self.ca is None:
            found.append("etcd's password goes over an unencrypted connection; give a ca and serve etcd with TLS")
        return found


def parse_endpoints(text: str) -> tuple[str, ...]:
    """Split `a:2379, b:2379`; blanks and empty parts are left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def leader_key(cluster: str) -> str:
    """The leader key of a cluster."""
    return f"/adapter/{cluster}/leader"


def state_key(cluster: str, name: str) -> str:
    """The key of a small value of a cluster."""
    return f"/adapter/{cluster}/state/{name}"


def _endpoint(text: str, tls: bool) -> str:
    match = _HOST_PORT.match(text.strip())
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(f"ETCD_ENDPOINTS: {text!r} is not host:port")
    if match["scheme"] == "https://" and not tls:
        raise ValueError(f"ETCD_ENDPOINTS: {text!r} asks for TLS, but no ca is given to check etcd's certificate with")
    if match["scheme"] == "http://" and tls:
        raise ValueError(f"ETCD_ENDPOINTS: {text!r} asks for no TLS, but a ca is given; drop one of the two")
    return f"{match['host']}:{match['port']}"
