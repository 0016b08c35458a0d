"""Names that both ledgers share: an order's id and the reference that travels with it to the broker (R19).

The id is derived, never drawn: after the database was restored from a backup, a client's retry of the same key meets
its own order at the broker, because the reference there carries the same id.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

_PREFIX = "pa"


def order_id(cluster: str, subject: str, client_order_id: str) -> str:
    """16 characters of A-Z2-7 (80 bits of SHA-256) derived from cluster, token subject and the client's key."""
    text = "\x1f".join((cluster, subject, client_order_id))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode()


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
