"""The fence agent `command`: run what the operator configured, with a deadline. Its exit code is logged, not believed (R15)."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress

from loguru import logger

from engine.clock import Clock, boottime
from ha.fence import NothingKnown, Outcome

HANDED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""What the command gets of our environment: the rest has secrets in it."""

MAX_OUTPUT = 2000
"""Characters of the command's output that are logged, the last ones."""

LAST_WORDS = 0.2
"""Seconds to wait for output after the command ended: a process that it left behind may keep the pipe open."""


def arguments(command: str) -> list[str]:
    """`FENCE_COMMAND` cut into words as a shell would, without being one. Raises ValueError with a sentence."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"FENCE_COMMAND cannot be cut into words: {error}.") from None
    if not words:
        raise ValueError("FENCE_COMMAND is empty.")
    return words


class Command:
    """See the module. A run is killed with all its children after `deadline` seconds.

    After a run the next one waits `rest` seconds, however often the gateway says 326: the command may be a heavy one.
    """

    def __init__(
        self,
        command: str,
        *,
        cluster: str,
        replica: str,
        client_id: int,
        gateway_id: str,
        deadline: float = 10.0,
        rest: float = 5.0,
        pause: float = 0.1,
        environ: Mapping[str, str] = os.environ,
        clock: Clock = boottime,
    ) -> None:
        """Raises ValueError with a sentence when `command` cannot be cut into words."""
        self._words = arguments(command)
        self._environment = {name: environ[name] for name in HANDED_ON if name in environ} | {
            "ADAPTER_CLUSTER": cluster,
            "ADAPTER_REPLICA": replica,
            "ADAPTER_CLIENT_ID": str(client_id),
            "ADAPTER_GATEWAY_ID": gateway_id,
        }
        self._deadline, self._rest, self._pause, self._clock = deadline, rest, pause, clock
        self._ended_at: float | None = None

    async def drop_old_session(
        self,
        *,
        open_now: Collection[str] = (),  # noqa: ARG002 - the port's
        dialed: Collection[str] = (),  # noqa: ARG002
        strangers: bool = True,
    ) -> Outcome:
        """See FenceAgent. Does not run the command while strangers must be left alone: it cannot tell them apart."""
        if strangers and (self._ended_at is None or self._clock() - self._ended_at >= self._rest):
            await self._run()
            self._ended_at = self._clock()
        await asyncio.sleep(self._pause)
        return NothingKnown("the agent `command` cannot tell who was connected")

    async def _run(self) -> None:
        said = bytearray()
        readable, writable = os.pipe()  # not asyncio's: that would wait for whoever else keeps the pipe open
        reading = asyncio.create_task(_read(readable, said))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writable,
                stderr=writable,
                env=self._environment,
                start_new_session=True,  # a process group of its own, so that its children can be killed with it
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL in a word
            logger.error("fence agent command: {} could not be started: {}", self._words[0], error)
            return
        finally:
            os.close(writable)  # with nobody else to write, `reading` ends
        over = False
        try:
            async with asyncio.timeout(self._deadline):
                await process.wait()
            over = True
        except TimeoutError:
            pass  # reported below
        finally:
            if not over:  # late, or this task is cancelled
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            await asyncio.wait({reading}, timeout=LAST_WORDS)
            reading.cancel()
        self._report(process.returncode if over else None, said.decode(errors="replace"))

    def _report(self, code: int | None, output: str) -> None:
        text = " ".join(output.split())
        text = ("…" + text[-MAX_OUTPUT:] if len(text) > MAX_OUTPUT else text) or "(nothing)"
        if code is None:
            logger.error("fence agent command: killed after {:g} s; it said: {}", self._deadline, text)
        else:
            logger.log("INFO" if code == 0 else "ERROR", "fence agent command: exit code {}; it said: {}", code, text)


async def _read(readable: int, said: bytearray) -> None:
    """Read a pipe to its end, whatever the length, and keep what may be logged. Closes it."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(readable, "rb", 0)
    )
    try:
        while chunk := await stream.read(65536):
            said += chunk
            del said[: -4 * MAX_OUTPUT]
    finally:
        transport.close()
