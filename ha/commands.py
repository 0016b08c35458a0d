"""What an operator asked for, written down where both replicas read it, outside the log (R29). The leader notes it in the log."""

from __future__ import annotations

import json

from engine.desk_settings import Asker
from engine.errors import unavailable
from engine.store import Connection, StoreError


class Commands:
    """Writes on a connection of its own, opened when it is first needed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def give(
        self,
        command: str,
        asker: Asker,
        reason: str,
        key: str | None = None,
        value: str | None = None,
        **details: object,
    ) -> None:
        """Write down the command and, where it is a wish, the wish under its `key`, in one transaction. Raises Problem 503."""
        parameters = {
            "command": command, "key": key, "value": value, "by": asker.subject, "reason": reason, "remote": asker.remote,
            "correlation_id": asker.correlation_id, "details": json.dumps(details),
        }  # fmt: skip
        try:
            if not self._connection.is_open:
                await self._connection.open(deadline=2.0)
            await self._connection.run("command", parameters, deadline=2.0)
        except StoreError as error:
            raise unavailable("database-away", f"The wish could not be written down: {error}") from error
