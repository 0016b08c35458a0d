"""What a break is called. Pure."""

from __future__ import annotations

import base64
import hashlib


def break_id(kind: str, what: str, seq: int) -> str:
    """8 characters of A-Z2-7, derived from what differs and from the ledger's seq when it was found: a later one is another."""
    text = "\x1f".join(("break", kind, what, str(seq)))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:5]).decode()
