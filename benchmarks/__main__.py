"""``python -m benchmarks NAME``: as root, on a machine that is otherwise quiet."""

from __future__ import annotations

import argparse
import importlib
import sys

NAMES = ("filters", "flows", "start")


def main() -> None:
    """Run one benchmark and print its table, in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    module = importlib.import_module(f"benchmarks.{arguments.name}")
    module.main(arguments.rounds)


if __name__ == "__main__":
    sys.exit(main())
