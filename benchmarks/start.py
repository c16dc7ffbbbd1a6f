"""From nothing to attached: the time Capture.open() takes, with an empty and a warm cache.

Each figure is from a process of its own, on a veth pair in a network namespace of its own.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile

from benchmarks.harness import Options, Report, Table

__all__ = ["run"]

_CHILD = """
import sys, time
begin = time.perf_counter()
import netring_bpf
from netring_bpf import Capture
imported = time.perf_counter()
capture = Capture("nrb1", filter=sys.argv[1], backend=sys.argv[2])
made = time.perf_counter()
capture.open()
attached = time.perf_counter()
capture.close()
print(imported - begin, made - imported, attached - made)
"""
_EXPRESSIONS = ("", "tcp port 80", "vlan 100 and tcp port 80")
_SETUP = (
    "ip link add nrb0 type veth peer name nrb1 && ip link set nrb0 up && ip link set nrb1 up && "
    'exec "$@"'
)


def _run(cache: str, expression: str, backend: str) -> list[float]:
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", _SETUP, "sh", sys.executable, "-c", _CHILD,
         expression, backend],
        env={"NETRING_BPF_CACHE": cache, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [1000 * float(part) for part in done.stdout.split()]


def run(options: Options) -> Report:
    """Measure each backend, with and without a filter, cold and warm."""
    rows = []
    for backend in ("af_xdp", "tpacket_v3"):
        for expression in _EXPRESSIONS:
            for state in ("cold", "warm") if backend == "af_xdp" else ("-",):
                runs = []
                for _ in range(options.rounds):
                    cache = tempfile.mkdtemp(prefix="netring-bench-")
                    if state == "warm":
                        _run(cache, expression, backend)
                    runs.append(_run(cache, expression, backend))
                    shutil.rmtree(cache)
                columns = [statistics.median(column) for column in zip(*runs, strict=True)]
                shown = f"`{expression}`" if expression else "none"
                rows.append((backend, shown, state, *(f"{value:.0f}" for value in columns)))
    names = ("backend", "filter", "cache", "import", "Filter", "attach")
    return Report("start", (Table("Milliseconds to an attached program", names, tuple(rows), 3),))
