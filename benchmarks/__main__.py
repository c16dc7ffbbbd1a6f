"""``python -m benchmarks NAME``: as root, on a machine that is otherwise quiet.

Progress goes to standard error, the tables (Markdown, or JSON with ``--json``) to standard output.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys

from benchmarks.harness import Options
from benchmarks.peers import PEERS

NAMES = ("fanout", "file", "filters", "latency", "live", "mqtt", "scale", "start", "table")


def main() -> None:
    """Run one benchmark and print what it says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--rounds", type=int, default=5, help="how often each case is run")
    parser.add_argument(
        "--against", nargs="+", action="extend", default=[], choices=sorted(PEERS), metavar="PEER",
        help=f"peers to install and to measure beside: {', '.join(sorted(PEERS))}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a small load, to try the benchmark")
    parser.add_argument("--json", action="store_true", help="all figures of all rounds, as JSON")
    arguments = parser.parse_args()
    # A shell that runs this in the background has it ignored, and so would the peers that it stops.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = Options(arguments.rounds, tuple(arguments.against), arguments.quick)
    report = importlib.import_module(f"benchmarks.{arguments.name}").run(options)
    print(report.as_json() if arguments.json else report.as_markdown())


if __name__ == "__main__":
    sys.exit(main())
