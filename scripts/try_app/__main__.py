"""Tries the MQTT sink with the programs that it is for: Home Assistant, Node-RED."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for tests.support
sys.path.insert(1, str(Path(__file__).resolve().parent))

import home_assistant
import node_red
import stage


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/try-…", description=__doc__)
    tries = parser.add_subparsers(dest="try_", required=True)
    for name, module in (("home-assistant", home_assistant), ("node-red", node_red)):
        added = tries.add_parser(name, description=module.__doc__)
        added.add_argument(
            "--home",
            type=Path,
            default=Path.home() / ".cache" / "netring-bpf" / name,
            help="where the program is installed, or will be [default: %(default)s]",
        )
        module.add_flags(added)
        added.set_defaults(run=module.run)
    given = parser.parse_args()
    try:
        given.run(given)
    except stage.NotSo as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    print("all of it is so", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
