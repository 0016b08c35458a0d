"""Frames, the handshake, and the way numbers look on the TWS socket. Pure; nothing here knows an order.

A frame is a 4-byte big-endian length and that many bytes of fields, each ended by a NUL. The first bytes of a connection
are `API` NUL and one frame `v157..178` (or one number), which chooses the server version.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from decimal import Context, Decimal
from functools import lru_cache

MIN_SERVER_VERSION = 157
MAX_SERVER_VERSION = 178
MAX_FRAME = 1 << 20
"""The longest frame that a client may send, in bytes. The longest real request is a few kilobytes."""

MAX_FIELD = 4096
"""The longest field of a request that is served, in characters; the longest real one is a list of account tags."""
MAX_NUMBER = 10**15
"""No price and no quantity is as large as this."""
MAX_DIGITS = 40
"""The longest number, in characters; and none is smaller than one at this decimal place."""
EXACT_DECIMALS = 12
"""Sums of quantities are exact up to so many decimal places."""
_WIDE = Context(prec=MAX_DIGITS)
_ZERO = Decimal(0)
_UNSET = Decimal("1E38")
"""From here on a number means "unset": clients write the largest double, or the largest integer of 128 bits."""

PREAMBLE = b"API\0"
_HANDSHAKE = re.compile(rb"v(\d{1,6})(?:\.\.(\d{1,6}))?(?: .*)?", re.DOTALL)


class WireError(ValueError):
    """The bytes are not the protocol. The message says what is wrong, without the bytes themselves."""


class VersionError(WireError):
    """Client and gateway speak no common version."""


class Frames:
    """Cuts a stream of bytes into the payloads of frames; holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the payloads completed by `data`, in order. Raises WireError at a length above MAX_FRAME.

        It must be used up before the next call.
        """
        buffer = self._data
        buffer += data
        at, size = 0, len(buffer)
        while size - at >= 4:
            length = int.from_bytes(buffer[at : at + 4], "big")
            if length > MAX_FRAME:
                buffer.clear()
                raise WireError(f"a frame of {length} bytes, more than {MAX_FRAME}")
            if size - at - 4 < length:
                break
            yield bytes(buffer[at + 4 : at + 4 + length])
            at += 4 + length
        del buffer[:at]

    @property
    def unfinished(self) -> int:
        """Bytes of a frame that has not ended."""
        return len(self._data)


def frame(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return struct.pack(">I", len(payload)) + payload


def message(fields: Iterable[str]) -> bytes:
    """One framed message of these fields; none may contain a NUL."""
    text = "\0".join(fields)
    return frame(text.encode(errors="replace") + b"\0")


def fields_of(payload: bytes) -> list[str]:
    """The fields of a payload. Raises WireError if the last one is not ended by a NUL, or on bytes that are not UTF-8."""
    if not payload.endswith(b"\0"):
        raise WireError("a message whose last field is not ended")
    try:
        fields = payload.decode().split("\0")
    except UnicodeDecodeError:
        raise WireError("a message that is not UTF-8") from None
    fields.pop()
    return fields


def negotiate(payload: bytes, highest: int = MAX_SERVER_VERSION) -> int:
    """The server version for a client's `v157..178`: the highest that both speak; `highest` is the gateway's.

    Raises VersionError if there is none, WireError if the payload names no versions.
    """
    match = _HANDSHAKE.fullmatch(payload)
    if match is None:
        raise WireError("the handshake does not name a range of versions")
    low = int(match[1])
    high = int(match[2] or match[1])
    version = min(high, highest)
    if version < max(low, MIN_SERVER_VERSION):
        raise VersionError(f"client versions {low} to {high}, served are {MIN_SERVER_VERSION} to {highest}")
    return version


def number(text: str) -> Decimal | None:
    """A price or quantity from the wire; None when it is empty or one of the values that mean "unset".

    Raises WireError if it is not a number, or none that a price or a quantity can be: bounded digits keep every text short.
    """
    if not text:
        return None
    try:
        value = Decimal(text) if len(text) <= MAX_DIGITS else None
    except ArithmeticError:
        value = None
    if value is None or not value.is_finite():
        raise WireError("a number was expected")
    if value >= _UNSET:
        return None
    if not value:
        return _ZERO
    if not -MAX_NUMBER < value < MAX_NUMBER or value.adjusted() < -MAX_DIGITS:
        raise WireError(f"a number between {-MAX_NUMBER} and {MAX_NUMBER} was expected, not so small a one")
    return value if decimals(value) <= EXACT_DECIMALS else value.normalize(_WIDE)


def decimals(value: Decimal) -> int:
    """How many decimal places a finite number is written with."""
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def integer(text: str) -> int:
    """An id or a count from the wire, empty = 0. Raises WireError if it is not a 64-bit integer."""
    try:
        value = int(text or "0") if len(text) <= MAX_DIGITS else None
    except ValueError:
        value = None
    if value is None:
        raise WireError("an integer was expected")
    if not -(1 << 63) <= value < 1 << 63:
        raise WireError("an integer of 64 bits was expected")
    return value


@lru_cache(maxsize=8192)
def plain(value: Decimal) -> str:
    """A decimal without exponent and without trailing zeros: `10`, `190.5`."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
