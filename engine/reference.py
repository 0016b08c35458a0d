"""Names that both ledgers share: an order's id and the reference that travels with it to the broker (R19).

The id is derived, never drawn: after the database was restored from a backup, a client's retry of the same key meets
its own order at the broker, because the reference there carries the same id.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache

_PREFIX = "pa"


@lru_cache(maxsize=4096)  # one request asks for it several times
def order_id(cluster: str, subject: str, client_order_id: str) -> str:
    """16 characters of A-Z2-7 (80 bits of SHA-256) derived from cluster, token subject and the client's key."""
    text = "\x1f".join((cluster, subject, client_order_id))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode()


def random_id() -> str:
    """A random UUID (version 4) as text, as `str(uuid.uuid4())` writes it, at a third of its cost."""
    digits = os.urandom(16).hex()
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


def cluster_tag(cluster: str) -> str:
    """4 characters of A-Z2-7 derived from the cluster's name; tells our orders from everybody else's."""
    return base64.b32encode(hashlib.sha256(b"tag\x1f" + cluster.encode()).digest()[:5]).decode()[:4]


@dataclass(frozen=True, slots=True)
class Reference:
    """`pa.TAG.EPOCH.ID`: what stands in the broker's orderRef. EPOCH is that of the order's acceptance."""

    tag: str
    epoch: int
    id: str

    def __str__(self) -> str:
        return f"{_PREFIX}.{self.tag}.{self.epoch}.{self.id}"

    @classmethod
    @lru_cache(maxsize=50_000)  # a comparison with the broker parses the same ones several times
    def parse(cls, text: str) -> Reference | None:
        """The reference in `text`, or None where it is not one of this form (a person's order, another tool's)."""
        parts = text.split(".")
        if (
            len(parts) != 4
            or parts[0] != _PREFIX
            or not (parts[2].isascii() and parts[2].isdigit())
            or len(parts[3]) != 16
        ):
            return None
        return cls(parts[1], int(parts[2]), parts[3])
