"""The fence agent `haproxy`: tell the relay before the gateway to end the old session (R15).

The relay has one frontend per replica before the same single gateway. The agent asks HAProxy's master for all workers
(after a reload the old session lives in an old one) and ends every session of every replica's frontend except what this
replica has open itself. Nobody else's connection is touched. docs/gateway-relay.md says how to set the relay up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from loguru import logger

from ha.fence import Dropped, Holder, NothingKnown, Outcome, Who
from ha.gateway_probe import in_words
from ha.haproxy import (
    Doors,
    RelayError,
    RelaySession,
    Worker,
    address_of,
    ended,
    frontends,
    has_no_worker,
    sessions,
    sort_out,
    workers,
)

MAX_ANSWER = 4 << 20
"""Bytes that one answer may have: some ten thousand sessions."""


ENDING_LOOKS, ENDING_PAUSE = 8, 0.025
"""How often, and how many seconds apart, the master is asked whether a worker that said nothing has ended."""

AT_ONCE = 4
"""Questions under way at the same time: the master takes ten connections, and others may ask it too."""


class MasterCli:
    """HAProxy's master CLI: one connection per question, so that nothing is left open and no answer meets another one."""

    def __init__(self, socket: str, deadline: float) -> None:
        """`socket` is a path or HOST:PORT (ValueError if it is neither), `deadline` bounds each question in seconds."""
        self.name, self._address, self._deadline = socket, address_of(socket), deadline
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def ask(self, command: str) -> str:
        """The whole answer to one command. Raises RelayError."""
        try:
            async with self._turns, asyncio.timeout(self._deadline):
                return await self._ask(command)
        except TimeoutError:
            raise RelayError(f"{self.name} did not answer `{command}` within {self._deadline:g} s") from None
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that no resolver takes
            raise RelayError(f"{self.name}: {in_words(error)}") from error

    async def _ask(self, command: str) -> str:
        if isinstance(self._address, str):
            reader, writer = await asyncio.open_unix_connection(self._address)
        else:
            reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(command.encode() + b"\n")
            writer.write_eof()  # otherwise the master keeps the connection open for the next command
            answer = bytearray()
            while chunk := await reader.read(65536):
                answer += chunk
                if len(answer) > MAX_ANSWER:
                    raise RelayError(f"the answer to `{command}` is longer than {MAX_ANSWER} bytes")
            return answer.decode(errors="replace")
        finally:
            writer.transport.abort()


class Haproxy:
    """See the module. `deadline` bounds each question to the relay, in seconds; three or four follow each other."""

    def __init__(
        self, socket: str, replica: str, *, prefix: str = "gateway_", deadline: float = 1.0, pause: float = 0.1
    ) -> None:
        """The frontends are `prefix` + the replica's name. Raises ValueError when `socket` is no address."""
        self._cli = MasterCli(socket, deadline)
        self._doors = Doors(prefix, prefix + replica)
        self._pause = pause

    async def drop_old_session(
        self, *, open_now: Collection[str] = (), dialed: Collection[str] = (), strangers: bool = True
    ) -> Outcome:
        """See FenceAgent. What fails is logged; when nobody was found there is a short pause before the return."""
        try:
            found = workers(await self._cli.ask("show proc"))
        except RelayError as error:
            return await self._nothing(str(error))
        parts, missing = await asyncio.gather(
            asyncio.gather(*(self._in_worker(worker, open_now, dialed, strangers) for worker in found)),
            self._door_missing(found),
        )
        holders = [holder for part in parts if isinstance(part, Dropped) for holder in part.holders]
        left = [holder for part in parts if isinstance(part, Dropped) for holder in part.strangers]
        unknown = [part.reason for part in parts if isinstance(part, NothingKnown)] + ([missing] if missing else [])
        for reason in unknown:
            logger.error("fence agent haproxy: {}", reason)
        for holder in holders:
            logger.info("fence agent haproxy: dropped {}", holder)
        if unknown and not holders and not left:
            return await self._nothing(unknown[0], said=True)
        if all(holder.who is Who.OURSELVES for holder in holders):
            await asyncio.sleep(self._pause)  # the gateway has not noticed yet, or somebody came by another way
        return Dropped(tuple(holders), tuple(left))

    async def _nothing(self, reason: str, *, said: bool = False) -> NothingKnown:
        if not said:
            logger.error("fence agent haproxy: {}", reason)
        await asyncio.sleep(self._pause)
        return NothingKnown(reason)

    async def _in_worker(
        self, worker: Worker, open_now: Collection[str], dialed: Collection[str], strangers: bool
    ) -> Dropped | NothingKnown:
        """End what is to end in one worker. A session that ends by itself meanwhile frees its pointer: see RelaySession."""
        try:
            answer = await self._cli.ask(f"@!{worker.pid} show sess")
            if has_no_worker(answer):
                return Dropped()
            ending, left = sort_out(
                sessions(answer), self._doors, open_now=open_now, dialed=dialed, strangers=strangers
            )
        except RelayError as error:
            if await self._has_ended(worker):
                return Dropped()
            return NothingKnown(f"worker {worker.pid}{' (old)' if worker.old else ''}: {error}")
        gone = await asyncio.gather(*(self._end(worker, session) for session, _ in ending))
        holders: list[Holder] = [holder for (_, holder), done in zip(ending, gone, strict=True) if done is None]
        refused = [reason for reason in gone if reason is not None]
        if refused and not holders:
            return NothingKnown(refused[0])
        for reason in refused:
            logger.error("fence agent haproxy: {}", reason)
        return Dropped(tuple(holders), tuple(left))

    async def _has_ended(self, worker: Worker) -> bool:
        """Whether the master has seen the worker's end: an old one ends with its last session, and says nothing then."""
        for _ in range(ENDING_LOOKS):
            try:
                if worker.pid not in {present.pid for present in workers(await self._cli.ask("show proc"))}:
                    return True
            except RelayError:
                return False
            await asyncio.sleep(ENDING_PAUSE)
        return False

    async def _end(self, worker: Worker, session: RelaySession) -> str | None:
        """None when the session is over, else why it is not."""
        try:
            ended(await self._cli.ask(f"@!{worker.pid} shutdown session {session.id}"))
        except RelayError as error:
            return f"{session.address} through {session.frontend}: {error}"
        return None

    async def _door_missing(self, found: list[Worker]) -> str | None:
        """Why our frontend is not known to exist, or None. On another relay "nobody is there" would mean nothing."""
        for worker in found:
            if worker.old:
                continue
            try:
                names = frontends(await self._cli.ask(f"@!{worker.pid} show stat -1 1 -1"))
            except RelayError as error:
                return f"worker {worker.pid}: {error}"
            if self._doors.ours in names:
                return None
        return f"the relay at {self._cli.name} has no frontend {self._doors.ours}"
