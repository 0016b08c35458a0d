"""Does the gateway answer? A TWS handshake without `startApi`: it takes no clientId, so it disturbs no session (R17).

It proves that a process reads the port and speaks TWS. It does not prove that this process serves requests: a mute gateway
answers the handshake, and the same on both replicas, so that nothing is gained by handing over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

OLDEST, NEWEST = 157, 178
"""The server versions that the adapter's own session asks for."""

MAX_FRAME = 4096
"""Bytes: a longer first frame is not a gateway's greeting."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The gateway greeted us; the server version that it and we share."""

    server_version: int


@dataclass(frozen=True, slots=True)
class Silent:
    """No greeting; why, in words."""

    reason: str


async def probe(host: str, port: int, deadline: float, *, open_now: set[str] | None = None) -> Answers | Silent:
    """Shake hands and close, all within `deadline` seconds. Never raises; leaves no connection open.

    `open_now` has our end of the connection as HOST:PORT while it is open, so that a fence agent spares it.
    """
    try:
        async with asyncio.timeout(deadline):
            reader, writer = await asyncio.open_connection(host, port, limit=MAX_FRAME)
            with _noted(writer, open_now):
                return await _shake_hands(reader, writer)
    except TimeoutError:
        return Silent(f"no answer within {deadline:g} s")
    except asyncio.IncompleteReadError:
        return Silent("the connection was closed before the greeting")
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that no resolver takes
        return Silent(in_words(error))


def in_words(error: OSError | UnicodeError) -> str:
    """Why a connection could not be made, without the address, which asyncio puts in the place of the reason."""
    number = getattr(error, "errno", None)
    if number is not None and number > 0:
        return os.strerror(number)
    return getattr(error, "strerror", None) or str(error)  # of a name that was not found, the number is another one


@contextlib.contextmanager
def _noted(writer: asyncio.StreamWriter, open_now: set[str] | None) -> Iterator[None]:
    address = "{}:{}".format(*writer.get_extra_info("sockname")[:2])
    if open_now is not None:
        open_now.add(address)
    try:
        yield
    finally:
        writer.transport.abort()  # nothing is buffered, and a gateway that reads nothing must not hold us up
        if open_now is not None:
            open_now.discard(address)


async def _shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answers | Silent:
    wanted = f"v{OLDEST}..{NEWEST}".encode()
    writer.write(b"API\0" + len(wanted).to_bytes(4, "big") + wanted)
    length = int.from_bytes(await reader.readexactly(4), "big")
    if not 2 <= length <= MAX_FRAME:
        return Silent("what answers there does not speak TWS")
    version, _, _ = (await reader.readexactly(length)).partition(b"\0")
    if not version.isdigit():
        return Silent("what answers there does not speak TWS")  # or a redirect, which a gateway never gives
    if not OLDEST <= int(version) <= NEWEST:
        return Silent(f"the gateway speaks server version {int(version)}, {OLDEST} to {NEWEST} is needed")
    return Answers(int(version))
