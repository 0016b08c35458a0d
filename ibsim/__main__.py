"""`adapter sim`, or `python -m ibsim`: the stand-in gateway as a command."""

import asyncio
import sys
from collections.abc import Sequence

from ibsim.book import Rules
from ibsim.contracts import KNOWN
from ibsim.gateway import Settings
from ibsim.options import parser
from ibsim.server import Ports, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 = it was told to stop, 1 = it cannot run, 2 = wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["conformance"]:
        from ibsim.conformance import main as conformance

        return conformance(words[1:])
    options = parser()
    given = options.parse_args(words)
    if given.port and given.port == given.control_port:
        options.error(f"--port and --control-port are both {given.port}; the control port needs one of its own")
    instruments = {one.key: one for one in (*KNOWN, *given.symbol)}
    settings = Settings(
        accounts=tuple(dict.fromkeys(given.account or ("DU1234567",))),
        rules=Rules(given.fill_delay_ms / 1000, given.fill_size or None, given.first_id),
        journal=given.journal,
        fsync=given.fsync,
        seed=given.seed,
        tick=given.tick_ms / 1000,
        zone=given.zone,
        time_form=given.time_form,
        commission=given.commission,
        master_client_id=given.master_client_id,
        server_version=given.server_version,
        hours=given.hours,
        daily_restart=given.daily_restart,
        weekly_logout=given.weekly_logout,
        restart_ms=given.restart_ms,
    )
    ports = Ports(given.host, given.port, given.control_port)
    return asyncio.run(run(ports, settings, list(instruments.values())))


if __name__ == "__main__":
    sys.exit(main())
