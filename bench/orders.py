"""The order path's figures, on a pair on this machine with tokens and risk limits on. Each part can be run alone.

    python -m bench.orders accepted --count 2000      one order accepted and durable, against a bare commit and round trip
    python -m bench.orders replica --count 2000       the same with a synchronous copy of PostgreSQL, and without
    python -m bench.orders sent --rate 300 --seconds 60         resting orders that reach the broker; what a standby lags
    python -m bench.orders durable --rate 1000 --seconds 60     accepted while no gateway is there, singly and in batches
    python -m bench.orders cancels                    cancels that overtake 500 orders behind the pace
    python -m bench.orders takeover --trials 5        a takeover with many past events, and with many open orders

`accepted`, `replica`, `sent` and `takeover` run with `ORDER_RATE=0`, the others with the pace as it is by default. Every
figure with a clock stands beside a ratio to something measured in the same run, where there is such a thing; what shares the
machine shares its two sides. The client and the stand-in gateway take their part of the same cores. Figures go to
bench/results.json. `--set NAME=VALUE` changes a setting, `--keep DIR` keeps the logs of both replicas, `--ports N` places
the pair on the ports from N + 1 on (otherwise free ones), N + 8 is the trivial server's. `--profile DIR` writes where the replicas'
CPU goes to files in DIR, by samples of their stacks (bench/sampling); the figures of such a run are not to be kept.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from bench import order_accepted, order_cancels, order_sent, order_takeover
from bench.failover import RESULTS, keep
from bench.figures import rows

PARTS = {
    "accepted": order_accepted.accepted,
    "replica": order_accepted.replica,
    "sent": order_sent.sent,
    "durable": order_sent.durable,
    "cancels": order_cancels.cancels,
    "takeover": order_takeover.takeover,
}


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The command line. Ends the process for one that it does not understand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="+", choices=list(PARTS))
    parser.add_argument("--count", type=int, default=2000, help="accepted, replica: orders")
    parser.add_argument("--rate", type=float, default=None, help="sent (300), durable (1000): orders a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="sent, durable: for how long")
    parser.add_argument("--connections", type=int, default=16, help="sent, durable: of the client")
    parser.add_argument("--batch", type=int, default=50, help="durable: orders in one batch, at most 50")
    parser.add_argument("--backlog", type=int, default=500, help="cancels: orders behind the pace")
    parser.add_argument("--cancels", type=int, default=100, help="cancels: working orders that are cancelled")
    parser.add_argument("--every", type=float, default=0.05, help="cancels: seconds between two of them")
    parser.add_argument("--trials", type=int, default=5, help="takeover: kills of each kind")
    parser.add_argument("--past", type=int, default=100_000, help="takeover: past events")
    parser.add_argument("--open", type=int, default=500, help="takeover: open orders")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of both replicas")
    parser.add_argument("--ports", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="a directory for the logs")
    parser.add_argument("--profile", type=Path, default=None, help="a directory for samples of the replicas' stacks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that the figures go to")
    parser.add_argument("--dry", action="store_true", help="print only")
    asked = parser.parse_args(argv)
    if unset := [pair for pair in asked.set if "=" not in pair]:
        parser.error(f"--set {unset[0]}: NAME=VALUE is wanted")
    asked.set = dict(pair.split("=", 1) for pair in asked.set)
    if asked.profile is not None:
        asked.profile.mkdir(parents=True, exist_ok=True)
        sampling = str(Path(__file__).with_name("sampling"))
        asked.set |= {"PYTHONPATH": sampling, "BENCH_SAMPLES": str(asked.profile.resolve())}
    return asked


def show(part: str, figures: dict[str, Any]) -> None:
    """Print the table of one part."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "figure", title=f"orders: {part}")
    for what, figure in rows(figures):
        table.add_row(what, figure)
    Console(width=100).print(table)


def main(argv: list[str] | None = None) -> int:
    """Run the parts, print a table for each, and keep the figures."""
    asked = parsed(argv)
    for part in asked.part:
        load = os.getloadavg()[0]
        logs = None if asked.keep is None else asked.keep / part
        one = argparse.Namespace(**(vars(asked) | {"keep": logs}))
        figures = asyncio.run(PARTS[part](one)) | {"load_average_before": round(load, 2)}
        show(part, figures)
        if not asked.dry and asked.profile is None:
            keep(f"orders_{part}", figures, asked.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
