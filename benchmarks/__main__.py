"""Run a benchmark, as root, on a machine that is otherwise quiet.

Progress goes to standard error, the tables (Markdown, or JSON with --json) to standard output.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys

from benchmarks.harness import Options
from benchmarks.peers import PEERS

NAMES = (
    "aggregate", "fanout", "file", "filters", "group", "latency", "live", "mqtt", "pipe", "scale",
    "start", "table",
)  # fmt: skip


def main() -> None:
    """Run one benchmark and print its report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument(
        "--rounds", type=int, help="run each case so often (default: 5; of latency, 3)"
    )
    parser.add_argument(
        "--against", nargs="+", action="extend", default=[], choices=sorted(PEERS), metavar="PEER",
        help=f"install these peers and measure them as well: {', '.join(sorted(PEERS))}",
    )  # fmt: skip
    parser.add_argument(
        "--every", action="store_true",
        help="measure what takes long as well: all rates and settings of latency, 20 minutes",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="try the benchmark on a small load")
    parser.add_argument("--json", action="store_true", help="print every figure of every round")
    arguments = parser.parse_args()
    # A shell that runs this in the background makes it ignore SIGINT. The peers would inherit that,
    # and some of them are stopped by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rounds = arguments.rounds or (3 if arguments.name == "latency" else 5)
    options = Options(rounds, tuple(arguments.against), arguments.quick, arguments.every)
    report = importlib.import_module(f"benchmarks.{arguments.name}").run(options)
    print(report.as_json() if arguments.json else report.as_markdown())


if __name__ == "__main__":
    sys.exit(main())
